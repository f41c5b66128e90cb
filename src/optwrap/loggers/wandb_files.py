"""What W&B has written of a run on this machine, read back: its .wandb files.

They are record logs as LevelDB has them: blocks of 32 KiB, of chunks with a header of checksum, length and kind.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optwrap.loggers.protocol import Place

_START, _BLOCK, _HEADER = 7, 32768, 7
_WHOLE, _LAST = 1, 4


def parts(folder: Path, run_id: str) -> list[Path]:
    """Return the files of a run's parts below `folder`, offline ones and others, oldest first."""
    found = folder.glob(f"wandb/*run-*-{run_id}/run-{run_id}.wandb")
    return sorted(found, key=lambda path: path.parent.name.partition("run-")[2])  # which begins with the time


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a file, up to where a kill cut it short."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2

    for content in _contents(path.read_bytes()):
        try:
            yield messages.Record.FromString(content)
        except DecodeError:
            return


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a file: each number by its name, as JSON."""
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            yield {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}


def is_ended(path: Path) -> bool:
    """Whether W&B has closed the file, and will not write to it again."""
    return any(record.WhichOneof("record_type") == "exit" for record in records(path))


def place(row: dict[str, str]) -> Place:
    """Return the split and update of a row."""
    split = next(name for name in row if "/" in name).partition("/")[0]
    return split, int(row["update"])


def _contents(data: bytes) -> Iterator[bytes]:
    at, content = _START, b""
    while at + _HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:  # what is left of a block is empty
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        at += _HEADER + length
        if kind == 0 or at > len(data):
            return
        content += data[at - length : at]
        if kind in (_WHOLE, _LAST):
            yield content
            content = b""
