"""Documents as one row of tokens in a file that is mapped into memory: made once, then shared by all runs."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from optwrap.files import replacing
from optwrap.text.vocabulary import Tokens, Vocabulary


@dataclass(frozen=True)
class TokenRow:
    """A separator, the first document, a separator, the second, ..., a separator at the end.

    `starts` are the places of the separators: document number d lies from starts[d] to starts[d + 1].
    """

    tokens: Tokens
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, documents: Iterable[Tokens], separator: int) -> "TokenRow":
        """Return the row of documents."""
        parts, starts, place = [], [], 0
        for document in documents:
            parts += [np.array([separator], np.uint16), document]
            starts.append(place)
            place += 1 + len(document)
        parts.append(np.array([separator], np.uint16))
        return cls(np.concatenate(parts), np.array([*starts, place]))


def fingerprint(files: dict[str, Path], *more: object) -> str:
    """Return what tells these files, by name, size and time of change, and `more` from any other."""
    stats = [(name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in sorted(files.items())]
    return hashlib.sha256(json.dumps([stats, [str(each) for each in more]]).encode()).hexdigest()[:16]


def kept_file(path: Path, make: Callable[[BinaryIO], None]) -> Path:
    """Return the file at `path`, written by `make` where it is not there; several processes may ask at once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            make(file)
    return path


def documents_of(files: Iterable[Path], split_at: str | None) -> Iterator[bytes]:
    """Yield the documents of files: each file, or what lies between the places where it has `split_at`."""
    for file in files:
        content = file.read_bytes()
        yield from [part for part in content.split(split_at.encode()) if part] if split_at else [content]


def kept_row(path: Path, files: list[Path], split_at: str | None, vocabulary: Vocabulary) -> TokenRow:
    """Return the tokens of files' documents, from the file at `path`, which is made where it is not there."""

    def make(file: BinaryIO) -> None:
        row = TokenRow.of(map(vocabulary.encode, documents_of(files, split_at)), vocabulary.separator)
        np.save(file, row.starts)
        np.save(file, row.tokens)

    kept_file(path, make)
    with path.open("rb") as content:
        starts = np.load(content)
        np.lib.format.read_magic(content)
        shape, _, dtype = np.lib.format.read_array_header_1_0(content)
        tokens = np.memmap(path, dtype, "r", offset=content.tell(), shape=shape)
    return TokenRow(tokens, starts)
