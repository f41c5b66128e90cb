"""The project's own code that a process has imported, as a hash a file."""

import functools
import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

DIGITS = 16


def imported_code(root: Path) -> dict[str, str]:
    """Return the files below `root` that this process has imported, by their paths from there, with their hashes.

    Packages that are installed in an environment below `root` are none of the project's. A file that is edited
    after it was first asked for keeps its hash: the process runs what it has read.
    """
    files: dict[str, str] = {}
    for folder, names in _imported_files().items():
        resolved = _resolved(folder)
        if resolved.is_relative_to(root) and "site-packages" not in resolved.parts:
            paths = [_resolved(os.path.join(resolved, name)) for name in names]
            files |= {
                path.relative_to(root).as_posix(): _hash(path) for path in paths if path.is_relative_to(root)
            }
    return {name: value for name, value in sorted(files.items()) if value}


def _imported_files() -> dict[str, list[str]]:
    """Return by folder: to follow the links of each of some thousand files takes half a second."""
    folders: dict[str, list[str]] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py") and "site-packages" not in file:
            folder, name = os.path.split(file)
            folders.setdefault(folder, []).append(name)
    return folders


def differing(recorded: Mapping[str, str], root: Path) -> list[str]:
    """Return which of the recorded files are other ones here, or are not here."""
    return [name for name, value in recorded.items() if _hash(root / name) != value]


@functools.cache
def _resolved(path: str) -> Path:
    """Follow its links, which takes longer than to import a small module: once for all jobs of a sweep."""
    return Path(path).resolve()


@functools.cache
def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]
    except OSError:
        return ""
