"""The ranks of a run: which one this process is, and what all of them agree on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those of the run; alone it is rank 0 of 1, and every call returns at once.

    Every other call is collective: each rank makes it at the same place of the run.

    >>> Ranks().first("here"), Ranks().mean({"loss": 0.5})
    ('here', {'loss': 0.5})
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "Ranks":
        """Return the place of this process."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the run's folder."""
        return self.rank == 0

    def first(self, value: Value) -> Value:
        """Return rank 0's value, which can be pickled."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all ranks, on rank 0; elsewhere nothing."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(value, values, dst=0)
        return values or []

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the mean of each value over the ranks."""
        if self.size == 1:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist(), strict=True))

    def all_of(self, found: Mapping[str, int]) -> dict[str, int]:
        """Return what any rank found, with the smallest of its numbers."""
        if self.size == 1:
            return dict(found)
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, dict(found))
        return {name: min(one[name] for one in every if name in one) for name in dict.fromkeys(chain(*every))}

    def share_buffers(self, model: nn.Module) -> None:
        """Give each rank the buffers of rank 0, such as the statistics of batch norm: replicas evaluate alike."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def agreement(self) -> Callable[[bool], bool] | None:
        """Return what tells each rank, one call later, whether any said yes; None where there is one rank alone.

        No call waits for the other ranks: it hands in what this one says, and returns what came of the last call.
        """
        return None if self.size == 1 else _Agreement()


ALONE = Ranks()


class _Agreement:
    def __init__(self) -> None:
        self._said = torch.tensor(0)
        self._work: dist.Work | None = None

    def __call__(self, said: bool) -> bool:
        if self._work is not None:
            self._work.wait()
        before = bool(self._said)
        self._said = torch.tensor(int(said))
        self._work = dist.all_reduce(self._said, dist.ReduceOp.MAX, async_op=True)
        return before
