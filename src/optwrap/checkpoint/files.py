"""Checkpoint files: there whole or not at all, checked before they are believed, loaded without running code."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

from optwrap.checkpoint.shard_folders import SHARDS, drop_unnamed, folder_of
from optwrap.errors import ConfigError
from optwrap.files import damage_of, disk_full, flush_folder
from optwrap.links import is_linked, link, remove, temporary_of
from optwrap.plan.ranks import ALONE, Ranks
from optwrap.record.folder_writer import FILES

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

logger = logging.getLogger(__name__)

_NAME = re.compile(r"update_(\d+)(?:_(\d+))?\.pt")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run: `folder` holds the last `keep` and `best.pt`, `latest` is the newest.

    A file is named for its update, and for the micro-batches that its gradients hold, where there are any.
    `best.pt` and `latest` are further names of the same files, or copies on a file system without such links.
    A sharded one has its tensors in a folder of the same name, which stays as long as a file names it.
    """

    folder: Path
    latest: Path
    keep: int = 2

    @classmethod
    def of_run(cls, folder: Path, keep: int = 1) -> "Checkpoints":
        """Return the checkpoints of the run in `folder`.

        Raises:
            ConfigError: not one shall be kept.
        """
        if keep < 1:
            raise ConfigError(f"checkpoint.keep={keep}: it must be 1 or more.")
        return cls(folder / "checkpoints", folder / FILES["checkpoint"], keep)

    def check_own(self) -> None:
        """Check that they are the run's alone to write and remove.

        Raises:
            ConfigError: the folder is a link to another.
        """
        if self.folder.is_symlink():
            raise ConfigError(
                f"{self.folder}: this is a link, and what a run drops would be dropped elsewhere. Put a folder in "
                "its place, or the whole run where there is room: hydra.run.dir=..."
            )

    def save(self, state: Mapping[str, Any] | memoryview, update: int, held: int) -> Path:
        """Write a checkpoint, or the bytes of one, and drop the oldest beyond `keep`; return its path.

        Raises:
            ConfigError: the disk is full, or as `take_in`.
        """
        path = self.path_of(update, held)
        self.clean()
        save(path, state)
        self.take_in(path)
        return path

    def path_of(self, update: int, held: int) -> Path:
        """Return where the checkpoint after so many updates, and micro-batches beyond them, is."""
        return self.folder / (f"update_{update:06d}_{held}.pt" if held else f"update_{update:06d}.pt")

    def take_in(self, path: Path) -> None:
        """Make a checkpoint that has been written the newest, and drop the oldest beyond `keep`.

        Raises:
            ConfigError: the first of the run is found to be one that no run could read.
        """
        link(path, self.latest)
        self._prune(path)
        if self.paths() == [path]:
            check_readable(path)

    def clean(self) -> None:
        """Remove what a save that was killed has left."""
        self.folder.mkdir(exist_ok=True)
        for left in [*self.folder.glob("*.tmp"), temporary_of(self.latest)]:
            remove(left)
        drop_unnamed(self.folder, [*self.paths(), self.best])

    def complete(self, path: Path) -> None:
        """Do what is left of `save` where it was killed after the checkpoint at `path`, the newest, was whole."""
        self.clean()
        if not is_linked(path, self.latest):
            link(path, self.latest)
        self._prune(path)

    def mark_best(self, path: Path) -> None:
        """Keep this checkpoint as the best so far."""
        link(path, self.best)
        drop_unnamed(self.folder, [*self.paths(), self.best])

    def _prune(self, newest: Path) -> None:
        for old in self.paths()[self.keep :]:
            if old != newest:
                remove(old)
        drop_unnamed(self.folder, [*self.paths(), self.best])

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

    def newest(
        self, device: torch.device, ranks: Ranks = ALONE, like: "Mapping[str, DTensor] | None" = None
    ) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest checkpoint that is whole, and where it is; None where there is none at all.

        Of several ranks each reads it, since it may be its own part (see `load`) that is damaged.

        Raises:
            ConfigError: there are some, and each is damaged.
        """
        problems = []
        for path in ranks.first(self.paths()):
            state, problem = _try_to_load(path, device, like)
            problem = ranks.first(next(filter(None, ranks.gather(problem)), None))
            if problem is None:
                return path, state
            logger.warning("%s The one before it is used.", problem)
            problems.append(problem)
        if problems:
            raise ConfigError("\n".join([f"{self.folder}: no checkpoint can be read.", *problems]))
        return None


def save(path: Path, state: Mapping[str, Any] | memoryview) -> None:
    """Write `state`, or the bytes that torch saves it as, beside `path`, flush them to disk and rename the file.

    Raises:
        ConfigError: the disk is full; what was there before still is.
    """
    temporary = temporary_of(path)
    try:
        with temporary.open("wb") as file:
            file.write(state) if isinstance(state, memoryview) else torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if full := disk_full(error):
            raise not_written(path, full) from error
        raise


def not_written(path: Path, full: OSError) -> ConfigError:
    """Return what to say of a checkpoint that a full disk has no room for."""
    return ConfigError(
        f"{path}: the checkpoint cannot be written ({full.strerror}). Earlier checkpoints are as they were: make "
        "room and go on with resume=... from the newest."
    )


def load(path: Path, device: torch.device, like: "Mapping[str, DTensor] | None" = None) -> dict[str, Any]:
    """Return what was saved, its tensors whole and on `device`.

    Of a sharded checkpoint, each rank reads those of the parameters in `like` sharded as they are: its own part.

    Raises:
        ConfigError: there is no such file, it is damaged, or it holds more than tensors and plain values.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no checkpoint. A run writes it at the end of its first epoch.")
    try:
        if damage := damage_of(path):
            raise ValueError(damage)
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
        if SHARDS in state:
            from optwrap.checkpoint.shards import put_tensors  # loads torch.distributed.checkpoint

            shards = state.pop(SHARDS)
            state = put_tensors(state, shards["index"], folder_of(path, shards["folder"]), device, like or {})
    except Exception as error:  # torch.load documents none; damaged files raise a dozen kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{path}: this is no readable checkpoint ({reason}).") from error
    return state


def check_readable(path: Path) -> None:
    """Read what was saved as `load` will, but for the tensors.

    Raises:
        ConfigError: it holds an object of a class that is not loaded, as the state of some optimizers does.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        name = found[1] if found else "an object"
        raise ConfigError(
            f"{path}: a checkpoint is of tensors and plain values, and this one holds a {name}, so no run could "
            "read it. Such state is mostly the optimizer's (optim_wrapper.optimizer): choose another; or, if you "
            f"trust that class, torch.serialization.add_safe_globals([{name}]) in the code of your experiment."
        ) from error


def _try_to_load(path: Path, device: torch.device, like: "Mapping[str, DTensor] | None") -> tuple[Any, str | None]:
    try:
        return load(path, device, like), None
    except ConfigError as error:
        return None, str(error)
