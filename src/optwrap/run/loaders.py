"""From data sets to batches on the device.

A batch is a function of the seed and of its place in the run: its samples, and every random number that augments
them. Nothing of a loader has to be saved, so a run goes on at any micro-batch, with any number of workers.
"""

import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Self, cast

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from optwrap.errors import ConfigError
from optwrap.instantiate import build
from optwrap.plan.order import BatchIndex, EvaluationOrder, TrainingOrder
from optwrap.plan.random_state import seeded
from optwrap.plan.ranks import Ranks
from optwrap.plan.samples import collate_of, find_splits
from optwrap.program.interruption import is_open
from optwrap.run.debugging import fewer_samples
from optwrap.run.setup import Process

# Seconds that a worker lives on after SIGTERM: until the run has ended, or until a scheduler kills both, whose own
# handler lets the run go on.
_GRACE, _SCHEDULERS_GRACE = 30, 3600


class SeededBatches(Dataset[Any]):
    """The batches of a dataset: `batches[BatchIndex(rows, seed)]` draws its random numbers from that seed.

    A dataset that has `collated(rows)` makes its batches by itself; the samples of any other are collated, by its
    own `collate_fn` where it has one.
    """

    def __init__(self, samples: Any) -> None:
        self.samples, self._collate = samples, collate_of(samples)

    def __getitem__(self, index: BatchIndex) -> Any:
        with seeded(index.seed):
            if hasattr(self.samples, "collated"):
                return self.samples.collated(index.rows)
            if hasattr(self.samples, "__getitems__"):
                return self._collate(self.samples.__getitems__(index.rows))
            return self._collate([self.samples[row] for row in index.rows])


@dataclass(frozen=True)
class Loaders:
    """The batches of a run, on its device; a context manager that ends what workers it has."""

    order: TrainingOrder
    _data: Any
    _orders: Mapping[str, EvaluationOrder]
    _to_device: Callable[[Any], Any]
    _options: dict[str, Any]
    _kept: dict[str, DataLoader[Any]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.clear()  # before the process ends, which would kill them

    def training(self, first: int, last: int) -> Generator[Any]:
        """Yield the training batches from number `first` to before `last`, counted over all epochs.

        Its workers end with the generator, also where that is closed early: those that outlive it would be killed.
        """
        batches = iter(self._loader(self._data.train, _Part(self.order, first, last), lasts=False))
        try:
            for batch in batches:
                yield self._to_device(batch)
        finally:
            del batches

    def evaluation(self, split: str) -> Iterator[Any]:
        """Yield the batches of the whole `split`, val or test; its workers stay for the next time."""
        if split not in self._kept:
            self._kept[split] = self._loader(getattr(self._data, split), self._orders[split], lasts=True)
        return map(self._to_device, self._kept[split])

    def _loader(self, samples: Any, order: Any, lasts: bool) -> DataLoader[Any]:
        # Where workers are no forks, as from Python 3.14 on, one takes seconds to start: it loads torch.
        persistent = lasts and self._options["num_workers"] > 0
        return DataLoader(
            SeededBatches(samples), batch_size=None, sampler=order, persistent_workers=persistent, **self._options
        )


@dataclass(frozen=True)
class _Part:
    order: TrainingOrder
    first: int
    last: int

    def __iter__(self) -> Iterator[BatchIndex]:
        return self.order.between(self.first, self.last)

    def __len__(self) -> int:
        return max(0, self.last - self.first)


def load_data(cfg: DictConfig, process: Process) -> Loaders:
    """Build `cfg.data` and return its loaders; under `cfg.debug` of fewer samples.

    Raises:
        ConfigError: it cannot be built, or as `find_splits` and `make_loaders`.
    """
    data = fewer_samples(find_splits(build(cfg.data, "data")), cfg.debug, cfg.batch_size)
    return make_loaders(data, cfg.batch_size, cfg.num_workers, cfg.seed, process, cfg.channels_last)


def make_loaders(
    data: Any, batch_size: int, num_workers: int, seed: int, process: Process, channels_last: bool = False
) -> Loaders:
    """Return loaders of `data.train`, `data.val` and `data.test`; each of several ranks gets its part.

    `batch_size` counts the samples of a micro-batch over all ranks.

    Raises:
        ConfigError: a number is out of range, not one training batch is full, or the ranks cannot share a batch.
    """
    for key, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value < least:
            raise ConfigError(f"{key}={value}: it must be {least} or more.")
    if num_workers > (most := max(64, 4 * (os.cpu_count() or 1))):
        raise ConfigError(f"num_workers={num_workers}: each is a process; on this machine give {most} at most.")
    samples = len(cast(Sized, data.train))
    if batch_size > samples:
        raise ConfigError(f"batch_size={batch_size} is more than the {samples} training samples: lower it.")
    ranks = process.ranks
    _check_shares(batch_size, ranks)
    orders = {}
    for split in ("val", "test"):
        orders[split] = EvaluationOrder(len(getattr(data, split)), batch_size, seed, ranks)
        if orders[split].samples < ranks.size:
            raise ConfigError(
                f"{ranks.size} ranks cannot share the {orders[split].samples} samples of an evaluation."
            )
    grace = _GRACE if is_open(signal.SIGTERM) else _SCHEDULERS_GRACE
    options = {
        "num_workers": num_workers,
        "pin_memory": process.device.type == "cuda",
        "worker_init_fn": partial(_leave_signals_to_the_run, grace),
        # Its own, or starting an iterator would draw from the generator that the model uses.
        "generator": torch.Generator().manual_seed(seed),
    }
    move = partial(to_device, device=process.device, channels_last=channels_last)
    return Loaders(TrainingOrder(samples, batch_size, seed, ranks), data, orders, move, options)


def _check_shares(batch_size: int, ranks: Ranks) -> None:
    rest = batch_size % ranks.size
    if rest:
        lower, higher = batch_size - rest, batch_size - rest + ranks.size
        nearest = f"{lower} or {higher}" if lower else str(higher)
        raise ConfigError(
            f"batch_size={batch_size}: it counts the samples of all {ranks.size} ranks, which cannot share them "
            f"equally. The nearest that they can: {nearest}."
        )


def to_device(batch: Any, device: torch.device, channels_last: bool = False) -> Any:
    """Return `batch` (a tensor, or lists, tuples and dicts of them) on the device; images in channels_last."""
    if isinstance(batch, Tensor):
        if channels_last and batch.ndim == 4:
            return batch.to(device, non_blocking=True, memory_format=torch.channels_last)
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(item, device, channels_last) for key, item in batch.items()}
    if isinstance(batch, list | tuple):
        items = [to_device(item, device, channels_last) for item in batch]
        return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)
    return batch


def batch_size(batch: Any) -> int:
    """Return how many samples a batch holds: the length of its first tensor, 0 where it has none."""
    if isinstance(batch, Tensor):
        return len(batch)
    if isinstance(batch, dict):
        batch = list(batch.values())
    sizes = (batch_size(item) for item in batch) if isinstance(batch, list | tuple) else ()
    return next((size for size in sizes if size), 0)


def _leave_signals_to_the_run(grace: int, worker: int) -> None:
    """Keep a data worker alive where a signal goes to the whole group: the run ends it after its checkpoint.

    A terminal sends Ctrl-C, and Slurm SIGTERM, to every process. A worker that dies of it would take the
    micro-batch with it that the run still wants to finish.
    """
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGTERM, partial(_end_within, grace))


def _end_within(grace: int, signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, grace)
