"""Which samples a batch is made of, and which part of it each rank takes."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from optwrap.plan.random_state import mix
from optwrap.plan.ranks import ALONE, Ranks


class BatchIndex(NamedTuple):
    """Which samples a batch is made of, and the seed of what is random about them."""

    rows: Sequence[int]
    seed: int


_AT_ONCE = 64
"""Batches whose seeds are made together: one by one, each between two updates, they take eight times as long."""


@dataclass(frozen=True)
class TrainingOrder:
    """The order of training: each epoch goes through the samples in an order of its own, and drops a last rest.

    Each rank takes its part of every batch, as one rank would take them with smaller micro-batches.

    >>> order = TrainingOrder(samples=5, batch_size=2, seed=0)
    >>> order.per_epoch, [len(index.rows) for index in order.between(1, 4)]
    (2, [2, 2, 2])
    """

    samples: int
    batch_size: int
    seed: int
    ranks: Ranks = ALONE

    @property
    def per_epoch(self) -> int:
        """Batches to an epoch."""
        return self.samples // self.batch_size

    def between(self, first: int, last: int) -> Iterator[BatchIndex]:
        """Yield the batches from number `first` to before `last`, counted from 0 at the start of the run."""
        seeds: list[int] = []
        for number in range(first, last):
            epoch, batch = divmod(number, self.per_epoch)
            if number == first or batch == 0:
                generator = torch.Generator().manual_seed(mix(self.seed, epoch))
                rows = torch.randperm(self.samples, generator=generator).tolist()
            if not seeds:
                seeds = [self._seed_of(each) for each in reversed(range(number, min(number + _AT_ONCE, last)))]
            start = self._start(batch)
            yield BatchIndex(rows[start : start + self._share], seeds.pop())

    @property
    def _share(self) -> int:
        return self.batch_size // self.ranks.size

    def _start(self, batch: int) -> int:
        return batch * self.batch_size + self.ranks.rank * self._share

    def _seed_of(self, number: int) -> int:
        epoch, batch = divmod(number, self.per_epoch)
        return mix(self.seed, epoch, self._start(batch) + 1)


ENDLESS = sys.maxsize
"""Batches to an epoch that does not end."""


@dataclass(frozen=True)
class StreamOrder:
    """The order of training on a stream of so many `samples`: as they come, an epoch is a pass, less a last rest.

    Where nobody knows how many they are (None), the whole run is one epoch, however often the stream begins anew.
    """

    samples: int | None
    batch_size: int
    seed: int
    ranks: Ranks = ALONE

    @property
    def per_epoch(self) -> int:
        """Batches to an epoch."""
        return ENDLESS if self.samples is None else self.samples // self.batch_size

    def seed_of(self, number: int) -> int:
        """Return the seed of a batch, counted over the run: what is random about its samples."""
        epoch, batch = divmod(number, self.per_epoch)
        return mix(self.seed, epoch, batch * self.batch_size + 1)

    def seed_of_pass(self, number: int) -> int:
        """Return the seed of a pass over the stream: what is random about its order."""
        return mix(self.seed, number)


@dataclass(frozen=True)
class EvaluationOrder:
    """The order of evaluation: every sample once, as they stand; random numbers are the same each time.

    The ranks share each batch. None is left without a sample, so that all go through the model equally often: a
    rest of fewer samples than ranks joins the batch before.

    >>> order = EvaluationOrder(samples=9, batch_size=4, seed=0, ranks=Ranks(rank=1, size=2))
    >>> [list(index.rows) for index in order]
    [[2, 3], [6, 7, 8]]
    """

    samples: int
    batch_size: int
    seed: int
    ranks: Ranks = ALONE

    def __iter__(self) -> Iterator[BatchIndex]:
        for number in range(len(self)):
            first = number * self.batch_size
            last = self.samples if number == len(self) - 1 else first + self.batch_size
            count, rank, size = last - first, self.ranks.rank, self.ranks.size
            rows = range(first + count * rank // size, first + count * (rank + 1) // size)
            yield BatchIndex(rows, mix(self.seed, rows.start))

    def __len__(self) -> int:
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + (rest >= self.ranks.size)


Order = TrainingOrder | StreamOrder
