"""Streams (IterableDataset): batches whose samples come one after the other, each at its place in the run.

One process reads a stream, or one of each rank: the whole of it, under the same random numbers.
"""

import logging
from collections.abc import Iterator
from itertools import chain, count, islice
from typing import Any

from torch.utils.data import IterableDataset

from optwrap.errors import ConfigError
from optwrap.plan.order import StreamOrder
from optwrap.plan.random_state import mix, seeded
from optwrap.plan.ranks import Ranks
from optwrap.run.data.batches import Collate, Refused

logger = logging.getLogger(__name__)


class TrainingStream(IterableDataset[Any]):
    """The training batches of a stream, from number `first` to before `last`, counted over the run.

    With a length each epoch is a pass over the stream, less a last rest; without, one pass follows another until
    the run ends. A stream that has `stream(start, seed)` begins at once where a run goes on; of another what was
    seen is read again.
    """

    def __init__(self, samples: Any, collate: Collate, order: StreamOrder, first: int, last: int) -> None:
        self.samples, self.collate, self.order = samples, collate, order
        self.first, self.last = first, last

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._batches()
        except ConfigError as error:
            yield Refused(str(error))

    def _batches(self) -> Iterator[Any]:
        number = self.first
        while number < self.last:
            epoch, batch = divmod(number, self.order.per_epoch)
            begins = number - batch
            ends = min(self.last, begins + self.order.per_epoch)
            samples, reached = self._begin(epoch, batch)
            for each in range(begins + reached, ends):
                with seeded(self.order.seed_of(each)):
                    rows = self._next(samples, each)
                    made = None if each < number else self.collate(rows)
                if each >= number:
                    yield made
            number = ends

    def _begin(self, epoch: int, batch: int) -> tuple[Iterator[Any], int]:
        """Return the samples of an epoch from `batch` on, or from its first, and the number of that batch."""
        if not batch:
            return self._passes(epoch), 0
        if hasattr(self.samples, "stream"):
            with seeded(self.order.seed):
                reaches = any(True for _ in self._from(epoch, batch))
            if reaches:
                return chain(self._from(epoch, batch), self._passes(epoch, 1)), batch
        elif self.order.ranks.is_first:
            seen = batch * self.order.batch_size
            logger.info("data.train has no stream(start, seed): its first %d samples are read again.", seen)
        return self._passes(epoch), 0

    def _next(self, samples: Iterator[Any], number: int) -> list[Any]:
        """Read the batch of all ranks; return this rank's part."""
        size, ranks = self.order.batch_size, self.order.ranks
        rows = list(islice(samples, size))
        if len(rows) < size:
            seen = number % self.order.per_epoch * size + len(rows)
            raise ConfigError(
                f"data.train: the stream has ended after {seen} samples, and its __len__ says "
                f"{self.order.samples}. Let both agree."
            )
        share = size // ranks.size
        return rows[ranks.rank * share : (ranks.rank + 1) * share]

    def _from(self, epoch: int, batch: int) -> Iterator[Any]:
        yield from self.samples.stream(batch * self.order.batch_size, self.order.seed_of_pass(epoch))

    def _passes(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """Yield the samples of an epoch: of one pass, or where nobody knows its length, of one after the other."""
        for number in count(first) if self.order.samples is None else range(first, 1):
            found = False
            for sample in begun(self.samples, self.order.seed_of_pass(epoch + number)):
                found = True
                yield sample
            if not found:
                raise ConfigError("data.train: the stream is empty. There is nothing to train on.")


class EvaluationStream(IterableDataset[Any]):
    """The batches of a whole stream, each sample once; random numbers are the same each time.

    The ranks share each batch as in `EvaluationOrder`: a rest of fewer samples than ranks joins the batch before.
    """

    def __init__(
        self, samples: Any, collate: Collate, split: str, batch_size: int, seed: int, ranks: Ranks
    ) -> None:
        self.samples, self.collate, self.split = samples, collate, split
        self.batch_size, self.seed, self.ranks = batch_size, seed, ranks

    def __iter__(self) -> Iterator[Any]:
        groups = self._groups()
        try:
            for number in count():
                with seeded(mix(self.seed, number * self.batch_size)):
                    rows = next(groups, None)
                    made = None if rows is None else self.collate(self._share(rows))
                if rows is None:
                    return
                yield made
        except ConfigError as error:
            yield Refused(str(error))

    def _share(self, rows: list[Any]) -> list[Any]:
        rank, size = self.ranks.rank, self.ranks.size
        return rows[len(rows) * rank // size : len(rows) * (rank + 1) // size]

    def _groups(self) -> Iterator[list[Any]]:
        samples = begun(self.samples, self.seed)
        rows = list(islice(samples, self.batch_size))
        if len(rows) < self.ranks.size:
            raise ConfigError(
                f"data.{self.split}: the stream has {len(rows)} samples, too few for an evaluation on "
                f"{self.ranks.size} rank{'s' * (self.ranks.size > 1)}. Leave the split out, or give more."
            )
        while rows:
            following = list(islice(samples, self.batch_size))
            if len(following) < self.ranks.size:
                rows, following = rows + following, []
            yield rows
            rows = following


class FirstOfStream(IterableDataset[Any]):
    """The first samples of a stream."""

    def __init__(self, samples: Any, length: int) -> None:
        self.samples, self.length = samples, length
        self.collate_fn = getattr(samples, "collate_fn", None)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return islice(begun(self.samples, 0), self.length)


def begun(samples: Any, seed: int) -> Iterator[Any]:
    """Return an iterator over a stream from its first sample on."""
    return iter(samples.stream(0, seed) if hasattr(samples, "stream") else samples)
