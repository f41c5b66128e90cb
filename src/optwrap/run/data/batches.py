"""From samples to a batch: the data set's own way, or torch's."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.utils.data import Dataset, default_collate, default_convert

from optwrap.errors import ConfigError, first_line
from optwrap.plan.order import BatchIndex
from optwrap.plan.random_state import seeded, torch_seeded
from optwrap.run.data.splits import own_collate_fn

Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class Refused:
    """Comes in place of a batch that could not be made: from a worker, an error would come with its traceback."""

    message: str


def delivered(batch: Any) -> Any:
    """Return the batch.

    Raises:
        ConfigError: it could not be made.
    """
    if isinstance(batch, Refused):
        raise ConfigError(batch.message)
    return batch


def collate_of(samples: Any, split: str, collate_fn: Collate | None) -> Collate:
    """Return what makes a batch of a list of samples: the data set's `collate_fn`, else this, else torch's own.

    Torch's own raises a ConfigError that names the `split` where samples are of different shape.
    """
    return own_collate_fn(samples) or collate_fn or partial(_collated, f"data.{split}")


class SeededBatches(Dataset[Any]):
    """The batches of a data set: `batches[BatchIndex(rows, seed)]` draws its random numbers from that seed.

    A data set that has `collated(rows)` makes its batches by itself; the samples of any other are collated. Where
    it also has a true `draws_from_torch_alone`, Python's and NumPy's generators are left alone.
    """

    def __init__(self, samples: Any, collate: Collate) -> None:
        self.samples, self.collate = samples, collate
        self._seeded = torch_seeded if _draws_from_torch_alone(samples) else seeded

    def __getitem__(self, index: BatchIndex) -> Any:
        try:
            with self._seeded(index.seed):
                return self._batch(index.rows)
        except ConfigError as error:
            return Refused(str(error))

    def _batch(self, rows: Any) -> Any:
        if hasattr(self.samples, "collated"):
            return self.samples.collated(rows)
        if hasattr(self.samples, "__getitems__"):
            return self.collate(self.samples.__getitems__(rows))
        return self.collate([self.samples[row] for row in rows])


def _draws_from_torch_alone(samples: Any) -> bool:
    """Whether the class that makes the batches says so: one that inherits from it may draw from others too."""
    makes = next((each for each in type(samples).__mro__ if "collated" in vars(each)), None)
    return makes is not None and "draws_from_torch_alone" in vars(makes) and bool(samples.draws_from_torch_alone)


class InThisProcess:
    """The batches in `order`, or of a stream, made when they are asked for: as a DataLoader without workers does.

    It spares each of them a profiler's record, and what else stands around the call.
    """

    def __init__(self, batches: Any, order: Iterable[BatchIndex] | None) -> None:
        self._batches, self._order = batches, order

    def __iter__(self) -> Iterator[Any]:
        made = self._batches if self._order is None else map(self._batches.__getitem__, self._order)
        return map(default_convert, made)


def _collated(key: str, samples: list[Any]) -> Any:
    try:
        return default_collate(samples)
    except (RuntimeError, TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(
            f"{key}: its samples cannot be put into one batch ({first_line(error)}). Give the data set, or the "
            "data for all splits, a collate_fn(samples), which makes a batch of a list of them, as by padding."
        ) from error
