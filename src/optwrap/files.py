"""Files that are there whole or not at all."""

import errno
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

_TEMPORARY = re.compile(r".+\.\d+\.tmp")
_FOLDER = 0x10  # an attribute of a part of a zip file: torch.load then gives what happens to be in memory
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

REFERENCES = "references.json"
"""What a task leaves in a run's folder of lines to compare its metrics with: metric -> name -> value."""


def write_text(path: Path, text: str) -> None:
    """Write as `write_bytes` does, in UTF-8; line ends stay as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary file beside `path`, flush it to disk and rename it."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file beside `path` that takes its place when it is whole, and else goes."""
    # A name of its own: two processes that write the same file never share a temporary one.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def csv_cell(cell: Any) -> Any:
    """Return what a spreadsheet shows as it is: a text that it would run as a formula gets a quote before it.

    >>> csv_cell("=1+1"), csv_cell("-3"), csv_cell("plain"), csv_cell(-3)
    ("'=1+1", '-3', 'plain', -3)
    """
    text = isinstance(cell, str | Path) and str(cell)
    return f"'{text}" if text and text[0] in "=+-@\t\r" and not _is_numeric(text) else cell


def _is_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def new_folder(wanted: Path) -> Path:
    """Make a folder of this name for this process alone; where there is one, with the first number that is free.

    Processes on any machine that share the file system get folders of their own.
    """
    for number in count(1):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("there is always a number")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON as `write_text` does; what JSON has no number for becomes the text `nan`, `inf` or `-inf`."""
    write_text(path, json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote, NaN and infinity as numbers again.

    Raises:
        OSError, ValueError, RecursionError: the file is not there, or no JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"), object_hook=_with_nan)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file as `read_json` does; empty where there is none, or it is damaged."""
    try:
        content = read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(content: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: float(value) for name, value in content.items() if value in ("nan", "inf", "-inf")}
    return content | numbers


def drop_temporaries(folder: Path) -> None:
    """Remove what a `write_text` that was killed has left; only where nobody else writes into the folder."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name) and not (path.is_dir() and not path.is_symlink()):
            path.unlink()


def flush_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def disk_full(error: BaseException | None) -> OSError | None:
    """Return the system's error where a full disk lies behind an error, else None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def damage_of(file: Path | BinaryIO) -> str | None:
    """Return what is not as torch saved it, which torch.load does not look for; None where all is well."""
    with zipfile.ZipFile(file) as archive:
        for part in archive.infolist():
            if part.external_attr & _FOLDER:
                return f"{part.filename} is marked as a folder"
        wrong = archive.testzip()
    return f"the checksum of {wrong} is wrong" if wrong else None
