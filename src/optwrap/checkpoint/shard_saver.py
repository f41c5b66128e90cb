"""Saves checkpoints whose tensors each rank writes by itself, at once or in the background."""

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor

from optwrap.checkpoint.file_saver import Ongoing
from optwrap.checkpoint.files import Checkpoints, not_written, save
from optwrap.checkpoint.shard_files import Writer
from optwrap.checkpoint.shard_folders import SHARDS, free_folder, temporary
from optwrap.checkpoint.shards import cause, planner, take_tensors
from optwrap.files import disk_full, flush_folder
from optwrap.plan.ranks import Ranks


class ShardSaver:
    """Writes shards into a temporary folder, renames it, and then writes the file that names it: the commit.

    Of several ranks all make each call; the file is written by rank 0. With `asynchronous`, tensors are copied to
    the host's memory and written by a thread; the commit then is made when `ongoing` is polled after that.
    """

    def __init__(self, checkpoints: Checkpoints, ranks: Ranks, asynchronous: bool) -> None:
        self._checkpoints, self._ranks, self._asynchronous = checkpoints, ranks, asynchronous
        # A group of its own: the thread's messages must not come between those of the training.
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self.ongoing = Ongoing(checkpoints, ranks)

    def save(self, state: Mapping[str, Any], update: int, held: int) -> Path:
        """Save this rank's part of a checkpoint, after waiting for the one before; return the path of its file.

        Raises:
            ConfigError: the disk is full; earlier checkpoints are as they were.
        """
        self.ongoing.wait()
        path = self._checkpoints.path_of(update, held)
        if self._ranks.is_first:
            self._checkpoints.clean()
            temporary(path).mkdir()
        self._ranks.first(None)  # the others write into this folder
        rest, tensors = take_tensors(state)
        writer = Writer(temporary(path))
        self.ongoing.begin(path, self._start(tensors, writer), partial(self._finish, path, rest, writer))
        if not self._asynchronous:
            self.ongoing.wait()
        return path

    def _start(self, tensors: dict[str, Tensor], writer: Writer) -> "Future[Any]":
        how: dict[str, Any] = {"storage_writer": writer, "planner": planner(), "process_group": self._group}
        if self._asynchronous:
            return cast("Future[Any]", dcp.async_save(tensors, **how))
        written: Future[Any] = Future()
        try:
            written.set_result(dcp.save(tensors, **how))
        except dcp.CheckpointException as error:
            written.set_exception(error)
        return written

    def _finish(self, path: Path, rest: Mapping[str, Any], writer: Writer, error: BaseException | None) -> None:
        if error is not None:
            if self._ranks.is_first:
                shutil.rmtree(temporary(path), ignore_errors=True)
            full = disk_full(cause(error))
            raise (cause(error) if full is None else not_written(path, full)) from error
        if self._ranks.is_first:
            self._commit(path, rest, writer)

    def _commit(self, path: Path, rest: Mapping[str, Any], writer: Writer) -> None:
        shards = free_folder(path)
        try:
            os.replace(temporary(path), shards)
            flush_folder(shards)
            flush_folder(shards.parent)
            save(path, {**rest, SHARDS: {"folder": shards.name, "index": writer.index}})
        except BaseException:
            shutil.rmtree(shards, ignore_errors=True)
            raise
        self._checkpoints.take_in(path)
