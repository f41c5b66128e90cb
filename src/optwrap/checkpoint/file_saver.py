"""Saves checkpoints that are one file each, at once or in the background."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor, nn

from optwrap.checkpoint.files import Checkpoints
from optwrap.checkpoint.state import each_tensor
from optwrap.plan.ranks import Ranks

LARGE = 16 * 2**20
"""Bytes of tensors from which on a thread also makes the file's content, of a copy."""


@dataclass
class _Pending:
    """A checkpoint that is being written; `finish` takes what went wrong, or None."""

    path: Path
    written: "Future[Any]"
    finish: Callable[[BaseException | None], None]
    is_best: bool = False


class Ongoing:
    """The checkpoint that is being written in the background, where there is one."""

    def __init__(self, checkpoints: Checkpoints, ranks: Ranks) -> None:
        self._checkpoints, self._ranks = checkpoints, ranks
        self._pending: _Pending | None = None

    def begin(self, path: Path, written: "Future[Any]", finish: Callable[[BaseException | None], None]) -> None:
        """Take in a checkpoint whose file will be at `path`; when it is `written`, call `finish`."""
        self._pending = _Pending(path, written, finish)

    @property
    def is_idle(self) -> bool:
        """Whether every checkpoint is on disk."""
        return self._pending is None

    def mark_best(self, path: Path) -> None:
        """Keep this checkpoint as the best so far; one that is being written, as soon as it is there."""
        if self._pending is not None and self._pending.path == path:
            self._pending.is_best = True
        elif self._ranks.is_first:
            self._checkpoints.mark_best(path)

    def poll(self) -> None:
        """Finish a checkpoint that is written by now.

        Raises:
            ConfigError: as `Checkpoints.save`.
        """
        if self._pending is not None and self._pending.written.done():
            self.wait()

    def wait(self) -> None:
        """Wait until every checkpoint is on disk; raises as `poll`."""
        if self._pending is None:
            return
        error = self._pending.written.exception()  # a signal may end this; what is being written stays known
        pending, self._pending = self._pending, None
        pending.finish(error)
        if pending.is_best and self._ranks.is_first:
            self._checkpoints.mark_best(pending.path)


class FileSaver:
    """Writes each checkpoint as one file, by rank 0; a thread does, unless `asynchronous` is false.

    It counts, as the newest and for `keep`, once it is whole; `ongoing` tells when, and what went wrong.
    """

    def __init__(self, checkpoints: Checkpoints, ranks: Ranks, asynchronous: bool) -> None:
        self._checkpoints, self._ranks, self._asynchronous = checkpoints, ranks, asynchronous
        self._size = LARGE  # bytes of the last one, until there is one as if it were large
        self.ongoing = Ongoing(checkpoints, ranks)

    def save(self, state: Mapping[str, Any], update: int, held: int) -> Path:
        """Save rank 0's `state`, after waiting for the checkpoint before; return the path of its file.

        Raises:
            ConfigError: as `Checkpoints.save`.
        """
        self.ongoing.wait()
        path = self._checkpoints.path_of(update, held)
        if not self._ranks.is_first:
            return path
        if not self._asynchronous:
            return self._checkpoints.save(state, update, held)
        # What a small one holds is written down at once, which is soon done: a thread that does it shares Python
        # with the loop, and waits for the disk only.
        # The size is counted again where it may have grown to a large one: a walk through all of the state.
        is_large = self._size >= LARGE // 4 and _nbytes(state) >= LARGE
        content = on_host(state) if is_large else _pickled(state)
        self._size = LARGE if isinstance(content, dict) else len(content)
        write = partial(self._checkpoints.save, content, update, held)
        self.ongoing.begin(path, _in_background(write), _raise)
        return path


def _pickled(state: Mapping[str, Any]) -> memoryview:
    content = BytesIO()
    torch.save(dict(state), content)
    return content.getbuffer()


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


def on_host(state: Any) -> Any:
    """Return a copy of a nest of dicts, lists and tuples, its tensors in the host's memory.

    A tensor that stands at several places, as a tied weight does, is copied once.
    """
    copies: dict[Any, Tensor] = {}

    def copied(name: str, value: Tensor) -> Tensor:
        if type(value) not in (Tensor, nn.Parameter) or value.layout is not torch.strided or value.is_meta:
            return value.detach().clone()
        place = value.device, value.data_ptr(), value.shape, value.stride()
        key = *place, value.dtype, value.is_conj(), value.is_neg()
        if key not in copies:
            copies[key] = value.detach().to("cpu", copy=True)
        return copies[key] if type(value) is Tensor else nn.Parameter(copies[key], value.requires_grad)

    return each_tensor(state, "", copied)


def _nbytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes if value.layout is torch.strided else 0
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_nbytes, items))


def _in_background(work: Callable[[], Path]) -> "Future[Path]":
    """Start a thread; it does not keep a process alive that is told to end at once."""
    done: Future[Path] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, name="checkpoint", daemon=True).start()
    return done
