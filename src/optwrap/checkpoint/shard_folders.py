"""Folders of shards: their names, and how long they stay."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch

from optwrap.links import remove

SHARDS = "shards"
"""Where a checkpoint names the folder that its tensors are in, and what is where in it."""

_NAME = re.compile(r"update_\d+(?:_\d+)?(?:\.\d+)?\.shards")


def temporary(path: Path) -> Path:
    """Return where the shards of a checkpoint's file are written."""
    return path.with_suffix(".shards.tmp")


def free_folder(path: Path) -> Path:
    """Return where they are when written: with a number where a damaged checkpoint of the same update is."""
    free, number = path.with_suffix(".shards"), 1
    while free.exists():
        free = path.with_suffix(f".{number}.shards")
        number += 1
    return free


def folder_of(path: Path, name: str) -> Path:
    """Return the folder of that name which a checkpoint's tensors are in: beside the file, or in `checkpoints`.

    Raises:
        ValueError: it is not there, or has no such name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no folder of shards")
    # A run's `checkpoint.pt` is beside the folder of all checkpoints.
    for folder in (path.parent, path.parent / "checkpoints"):
        if (folder / name).is_dir():
            return folder / name
    raise ValueError(f"its tensors are in {name}, which is not there")


def drop_unnamed(folder: Path, files: Iterable[Path]) -> None:
    """Remove the folders of shards that none of `files` names."""
    there = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    named = {_named_by(path) for path in files if path.exists()} if there else set()
    for path in there:
        if path.name not in named:
            remove(path)


def _named_by(path: Path) -> str | None:
    """Return the folder of shards that a checkpoint names; None also where it cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)[SHARDS]["folder"]
    except Exception:
        return None
