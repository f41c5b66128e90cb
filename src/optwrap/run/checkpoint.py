"""Checkpoint files: there whole or not at all, checked before they are believed, loaded without running code."""

import errno
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.run.model_state import load_full_state, local_state

logger = logging.getLogger(__name__)

_NAME = re.compile(r"update_(\d+)(?:_(\d+))?\.pt")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run: `folder` holds the last `keep` and `best.pt`, `latest` is the newest.

    A file is named for its update, and for the micro-batches that its gradients hold, where there are any.
    `best.pt` and `latest` are further names of the same files, or copies on a file system without such links.
    """

    folder: Path
    latest: Path
    keep: int = 2

    def save(self, state: Mapping[str, Any], update: int, held: int) -> Path:
        """Write a checkpoint and drop the oldest beyond `keep`; return its path."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / (f"update_{update:06d}_{held}.pt" if held else f"update_{update:06d}.pt")
        save(path, state)
        _link(path, self.latest)
        for old in self.paths()[self.keep :]:
            if old != path:
                old.unlink()
        return path

    def mark_best(self, path: Path) -> None:
        """Keep this checkpoint as the best so far."""
        _link(path, self.best)

    @property
    def best(self) -> Path:
        """Where the checkpoint of the best evaluation is."""
        return self.folder / "best.pt"

    def paths(self) -> list[Path]:
        """Return the last checkpoints, the newest first."""
        if not self.folder.is_dir():
            return []
        found = {path: match for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))}
        return sorted(found, key=lambda path: [int(part or 0) for part in found[path].groups()], reverse=True)

    def find(self, which: str, device: torch.device) -> tuple[Path, dict[str, Any]]:
        """Return the 'best' checkpoint, or the 'last' that is whole, and where it is.

        Raises:
            ConfigError: there is none.
        """
        if which == "best":
            return self.best, load(self.best, device)
        found = self.newest(device) if self.paths() else None
        return found or (self.latest, load(self.latest, device))

    def newest(self, device: torch.device) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest checkpoint that is whole, and where it is; None where there is none at all.

        Raises:
            ConfigError: there are some, and each is damaged.
        """
        problems = []
        for path in self.paths():
            try:
                return path, load(path, device)
            except ConfigError as error:
                logger.warning("%s The one before it is used.", error)
                problems.append(str(error))
        if problems:
            raise ConfigError("\n".join([f"{self.folder}: no checkpoint can be read.", *problems]))
        return None


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to a temporary file beside `path`, flush it to disk and rename it.

    Raises:
        ConfigError: the disk is full; what was there before still is.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if reason := _disk_full(error):
            raise ConfigError(
                f"{path}: the checkpoint cannot be written ({reason}). Earlier checkpoints are as they were: make "
                "room and go on with resume=... from the newest."
            ) from error
        raise


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Return what `save` wrote, its tensors on `device`.

    Raises:
        ConfigError: there is no such file, it is damaged, or it holds more than tensors and plain values.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no checkpoint. A run writes it at the end of its first epoch.")
    try:
        damaged = zipfile.ZipFile(path).testzip()  # torch.load does not look at the checksums that it writes
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
    except Exception as error:  # torch.load documents none; damaged files raise a dozen kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{path}: this is no readable checkpoint ({reason}).") from error
    return state


def load_model(model: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Load the model's weights; where they do not fit, change nothing.

    Raises:
        ConfigError: the names or shapes are not those of `model`; the message lists them.
    """
    saved = state.get("model")
    if not isinstance(saved, Mapping):
        raise ConfigError(f"{path}: the checkpoint has no weights of a model.")
    own = local_state(model)
    problems = [
        *_listed("The model also has", [name for name in own if name not in saved]),
        *_listed("The checkpoint also has", [str(name) for name in saved if name not in own]),
        *_listed("Other shapes", [_shapes(name, saved[name], own[name]) for name in own if name in saved]),
    ]
    if problems:
        raise ConfigError("\n".join([f"{path}: the checkpoint does not fit the model.", *problems]))
    load_full_state(model, saved)


def _shapes(name: str, saved: Any, own: Any) -> str:
    """Return what differs between a saved tensor and the model's; nothing where they fit."""
    if not isinstance(own, torch.Tensor):  # a module's extra state
        return ""
    if not isinstance(saved, torch.Tensor):
        return f"{name} (saved {type(saved).__name__}, here {tuple(own.shape)})"
    same = saved.shape == own.shape
    return "" if same else f"{name} (saved {tuple(saved.shape)}, here {tuple(own.shape)})"


def _listed(what: str, names: list[str], most: int = 8) -> list[str]:
    names = [name for name in names if name]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return [f"{what}: {', '.join(names[:most])}{more}."] if names else []


def _link(path: Path, name: Path) -> None:
    """Give the file another name, in place of the file that had it."""
    temporary = name.with_name(name.name + ".tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without links
        shutil.copyfile(path, temporary)
    os.replace(temporary, name)


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _disk_full(error: BaseException | None) -> str | None:
    """Return the system's words where a full disk lies behind an error, else None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error.strerror
        error = error.__cause__ or error.__context__
    return None
