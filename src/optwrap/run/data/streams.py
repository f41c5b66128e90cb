"""Streams (IterableDataset): batches whose samples come one after the other, each at its place in the run.

Every rank and every worker reads the whole stream under the same random numbers, and makes batches of its own
part: so a batch is the same whoever makes it, and what costs time belongs into `collate_fn`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count, islice
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils import worker as torch_worker

from optwrap.errors import ConfigError
from optwrap.plan.order import StreamOrder
from optwrap.plan.random_state import mix, seeded
from optwrap.plan.ranks import Ranks
from optwrap.run.data.batches import Collate, Refused

logger = logging.getLogger(__name__)

_END = object()


class TrainingStream(IterableDataset[Any]):
    """The training batches of a stream, from number `first` to before `last`, counted over the run.

    With a `length` each epoch is a pass over the stream, less a last rest; without, one pass follows another until
    the run ends. A stream that has `stream(start, seed)` begins at once where a run goes on; of another what was
    seen is read again.
    """

    def __init__(self, samples: Any, collate: Collate, order: StreamOrder, first: int, last: int) -> None:
        self.samples, self.collate, self.order = samples, collate, order
        self.first, self.last = first, last

    def __iter__(self) -> Iterator[Any]:
        part, parts = _part_of_worker()
        number = self.first
        while number < self.last:
            epoch, batch = divmod(number, self.order.per_epoch)
            end = min(self.last, number - batch + self.order.per_epoch)
            samples, reached = self._begin(epoch, batch)
            for number in range(number - batch + reached, end):
                mine = number >= self.first and (number - self.first) % parts == part
                made = self._next(samples, number, mine)
                if mine or isinstance(made, Refused):
                    yield made
                if isinstance(made, Refused):
                    return
            number = end

    def _begin(self, epoch: int, batch: int) -> tuple[Iterator[Any], int]:
        """Return the samples of an epoch from `batch` on, or from an earlier one, and from which."""
        if not batch:
            return self._passes(epoch), 0
        if hasattr(self.samples, "stream"):
            with _as_one_reader(self.order.seed):
                reaches = any(True for _ in self._from(epoch, batch))
            if reaches:
                return chain(self._from(epoch, batch), self._passes(epoch, 1)), batch
        elif self.order.ranks.is_first and _part_of_worker()[0] == 0:
            seen = batch * self.order.batch_size
            logger.info("data.train has no stream(start, seed): its first %d samples are read again.", seen)
        return self._passes(epoch), 0

    def _next(self, samples: Iterator[Any], number: int, mine: bool) -> Any:
        """Read one batch of all ranks; return this rank's part of it if it is `mine` to make."""
        order = self.order
        epoch, batch = divmod(number, order.per_epoch)
        share = order.batch_size // order.ranks.size
        start = order.ranks.rank * share
        try:
            with _as_one_reader(order.seed_of(number)):
                rows = list(islice(samples, order.batch_size))
                if len(rows) == order.batch_size:
                    return self.collate(rows[start : start + share]) if mine else None
        except ConfigError as error:
            return Refused(str(error))
        return Refused(
            f"data.train: the stream has ended after {batch * order.batch_size + len(rows)} samples, and its "
            f"__len__ says {order.samples}. Let both agree."
        )

    def _from(self, epoch: int, batch: int) -> Iterator[Any]:
        yield from self.samples.stream(batch * self.order.batch_size, self.order.seed_of_pass(epoch))

    def _passes(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """Yield the samples of an epoch: of one pass, or where nobody knows its length, of one after the other."""
        for number in count(first) if self.order.samples is None else range(first, 1):
            found = False
            for sample in _begun(self.samples, self.order.seed_of_pass(epoch + number)):
                found = True
                yield sample
            if not found:
                raise ConfigError("data.train: the stream is empty. There is nothing to train on.")


class EvaluationStream(IterableDataset[Any]):
    """The batches of a whole stream, each sample once; random numbers are the same each time.

    The ranks share each batch as in `EvaluationOrder`: a rest of fewer samples than ranks joins the batch before.
    """

    def __init__(self, samples: Any, collate: Collate, split: str, batch_size: int, seed: int, ranks: Ranks) -> None:
        self.samples, self.collate, self.split = samples, collate, split
        self.batch_size, self.seed, self.ranks = batch_size, seed, ranks

    def __iter__(self) -> Iterator[Any]:
        part, parts = _part_of_worker()
        groups = self._groups()
        for number in count():
            made = self._next(groups, number, number % parts == part)
            if made is _END:
                return
            if number % parts == part or isinstance(made, Refused):
                yield made
            if isinstance(made, Refused):
                return

    def _next(self, groups: Iterator[list[Any]], number: int, mine: bool) -> Any:
        try:
            with _as_one_reader(mix(self.seed, number * self.batch_size)):
                rows = next(groups, None)
                if rows is None:
                    return _END
                first, last = (len(rows) * rank // self.ranks.size for rank in (self.ranks.rank, self.ranks.rank + 1))
                return self.collate(rows[first:last]) if mine else None
        except ConfigError as error:
            return Refused(str(error))

    def _groups(self) -> Iterator[list[Any]]:
        samples = _begun(self.samples, self.seed)
        rows = list(islice(samples, self.batch_size))
        if len(rows) < self.ranks.size:
            raise ConfigError(
                f"data.{self.split}: the stream has {len(rows)} samples, and {self.ranks.size} "
                f"rank{'s' * (self.ranks.size > 1)} cannot evaluate them. Leave it out, or give more."
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
        return islice(iter(self.samples), self.length)


def _begun(samples: Any, seed: int) -> Iterator[Any]:
    return iter(samples.stream(0, seed) if hasattr(samples, "stream") else samples)


def _part_of_worker() -> tuple[int, int]:
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


@contextmanager
def _as_one_reader(seed: int) -> Iterator[None]:
    """Read under these random numbers, as one reader of all.

    Many streams divide themselves by `get_worker_info()`; divided again by this module, samples would be lost.
    """
    info = torch_worker._worker_info
    torch_worker._worker_info = None
    try:
        if get_worker_info() is not None:
            raise ConfigError("num_workers: with this version of torch a stream can be read by one at most. Give 1.")
        with seeded(seed):
            yield
    finally:
        torch_worker._worker_info = info
