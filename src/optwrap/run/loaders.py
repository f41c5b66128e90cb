"""From data sets to batches on the device.

A batch is a function of the seed and of its place in the run: its samples, and every random number that augments
them. Nothing of a loader has to be saved, so a run goes on at any micro-batch, with any number of workers.
"""

import logging
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from optwrap.errors import ConfigError
from optwrap.instantiate import build
from optwrap.plan.order import BatchIndex, EvaluationOrder, Order, StreamOrder, TrainingOrder
from optwrap.plan.ranks import Ranks
from optwrap.program.interruption import is_open
from optwrap.run.data.batches import Collate, InThisProcess, SeededBatches, collate_of, delivered
from optwrap.run.data.delivery import copied_ahead, leave_signals_to_the_run, placed, to_device
from optwrap.run.data.splits import EVALUATED, Splits, find_splits, is_stream, length_of
from optwrap.run.data.streams import EvaluationStream, TrainingStream
from optwrap.run.debugging import fewer_samples
from optwrap.run.setup import Process, memory_format

logger = logging.getLogger(__name__)

# Seconds that a worker lives on after SIGTERM: until the run has ended, or until a scheduler kills both, whose own
# handler lets the run go on.
_GRACE, _SCHEDULERS_GRACE = 30, 3600


@dataclass(frozen=True)
class Loaders:
    """The batches of a run, on its device; a context manager that ends what workers it has."""

    order: Order
    splits: Splits
    _to_device: Callable[[Iterator[Any]], Iterator[Any]]
    _options: dict[str, Any]
    _kept: dict[str, Iterable[Any]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.clear()  # before the process ends, which would kill them

    @property
    def fingerprint(self) -> str | None:
        """What tells the data from any other; None where the data function does not say."""
        found = self.splits.fingerprint()
        return None if found is None else str(found)

    @property
    def batch_size(self) -> int:
        """Samples of a training batch of this rank."""
        return self.order.batch_size // self.order.ranks.size

    def training(self, first: int, last: int) -> Generator[Any]:
        """Yield the training batches from number `first` to before `last`, counted over all epochs.

        Its workers end with the generator, also where that is closed early: those that outlive it would be killed.
        """
        samples, collate = self.splits.train, self._collate("train")
        if isinstance(self.order, StreamOrder):
            loader = self._loader(TrainingStream(samples, collate, self.order, first, last), None, lasts=False)
        else:
            part = _Part(self.order, first, last)
            loader = self._loader(SeededBatches(samples, collate), part, lasts=False)
        batches = self._delivered(loader)
        try:
            yield from batches
        finally:
            del batches

    def evaluation(self, split: str) -> Iterator[Any]:
        """Yield the batches of the whole `split` in its order; its workers stay for the next time.

        Raises:
            ConfigError: there is none.
        """
        if split not in self._kept:
            self._kept[split] = self._of_evaluation(split)
        return self._delivered(self._kept[split])

    def has(self, split: str) -> bool:
        """Whether there is such a split: train, val or test."""
        return getattr(self.splits, split) is not None

    def _of_evaluation(self, split: str) -> Iterable[Any]:
        samples, order = self.splits.evaluated(split), self.order
        collate, shared = self._collate(split), (order.batch_size, order.seed, order.ranks)
        if is_stream(samples):
            return self._loader(EvaluationStream(samples, collate, split, *shared), None, lasts=True)
        return self._loader(SeededBatches(samples, collate), EvaluationOrder(len(samples), *shared), lasts=True)

    def _collate(self, split: str) -> Collate:
        return collate_of(getattr(self.splits, split), split, self.splits.collate_fn)

    def _delivered(self, loader: Iterable[Any]) -> Iterator[Any]:
        return self._to_device(map(delivered, loader))

    def _loader(self, batches: Any, order: Any, lasts: bool) -> Iterable[Any]:
        if not self._options["num_workers"] and not self._options["pin_memory"]:
            return InThisProcess(batches, order)
        # Where workers are no forks, as from Python 3.14 on, one takes seconds to start: it loads torch.
        # A stream is read in its order by one process: two would divide it, if it asks `get_worker_info`.
        workers = self._options["num_workers"] if order is not None else min(1, self._options["num_workers"])
        options = self._options | {"num_workers": workers, "persistent_workers": lasts and workers > 0}
        return DataLoader(batches, batch_size=None, sampler=order, **options)


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
    if is_stream(data.train) and length_of(data.train) is None and cfg.max_updates is None:
        raise ConfigError(
            "max_updates=null: data.train is a stream that does not say its length, so epochs have no end. Give "
            "max_updates=..., or the stream a __len__."
        )
    data, there = placed(data, cfg.data_on_device, process.device)
    if there and cfg.num_workers:
        logger.info("num_workers=%d: samples that lie on the device are read by none.", cfg.num_workers)
    workers = 0 if there else cfg.num_workers
    return make_loaders(data, cfg.batch_size, workers, cfg.seed, process, memory_format(cfg), pinned=not there)


def make_loaders(
    data: Any,
    batch_size: int,
    num_workers: int,
    seed: int,
    process: Process,
    memory_format: torch.memory_format = torch.preserve_format,
    pinned: bool = True,
) -> Loaders:
    """Return loaders of the splits of `data` (`find_splits`); each of several ranks gets its part.

    `batch_size` counts the samples of a micro-batch over all ranks; `memory_format` is as of `to_device`.
    `pinned`: batches come from the host's memory, and faster to CUDA from a pinned part of it.

    Raises:
        ConfigError: a number is out of range, not one training batch is full, or the ranks cannot share a batch;
            as `find_splits`.
    """
    for key, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value < least:
            raise ConfigError(f"{key}={value}: it must be {least} or more.")
    if num_workers > (most := max(64, 4 * (os.cpu_count() or 1))):
        raise ConfigError(f"num_workers={num_workers}: each is a process; on this machine give {most} at most.")
    splits, ranks = find_splits(data), process.ranks
    streams = [
        name
        for name in ("train", *EVALUATED)
        if getattr(splits, name) is not None and is_stream(getattr(splits, name))
    ]
    if num_workers > 1 and streams:
        logger.info("num_workers=%d: streams (data.%s) are read by one.", num_workers, ", data.".join(streams))
    order = _order(splits, batch_size, seed, ranks)
    grace = _GRACE if is_open(signal.SIGTERM) else _SCHEDULERS_GRACE
    copied = pinned and process.device.type == "cuda"
    options = {
        "num_workers": num_workers,
        "pin_memory": copied,
        "worker_init_fn": partial(leave_signals_to_the_run, grace),
        # Its own, or starting an iterator would draw from the generator that the model uses.
        "generator": torch.Generator().manual_seed(seed),
    }
    how: dict[str, Any] = {"device": process.device, "memory_format": memory_format}
    if copied:
        there: Any = partial(copied_ahead, **how, copying=torch.cuda.Stream(process.device))
    elif process.device.type == "cpu" and memory_format is torch.preserve_format:
        there = iter  # that is where they are
    else:
        there = partial(map, partial(to_device, **how))
    return Loaders(order, splits, there, options)


def _order(splits: Splits, batch_size: int, seed: int, ranks: Ranks) -> Order:
    samples = length_of(splits.train)
    if samples is not None and batch_size > samples:
        raise ConfigError(f"batch_size={batch_size} is more than the {samples} training samples: lower it.")
    _check_shares(batch_size, ranks)
    for split in EVALUATED:
        length = length_of(getattr(splits, split))
        if length is not None and length < ranks.size:
            raise ConfigError(f"{ranks.size} ranks cannot share the {length} samples of an evaluation.")
    if is_stream(splits.train):
        return StreamOrder(samples, batch_size, seed, ranks)
    assert samples is not None
    return TrainingOrder(samples, batch_size, seed, ranks)


def _check_shares(batch_size: int, ranks: Ranks) -> None:
    rest = batch_size % ranks.size
    if rest:
        lower, higher = batch_size - rest, batch_size - rest + ranks.size
        nearest = f"{lower} or {higher}" if lower else str(higher)
        raise ConfigError(
            f"batch_size={batch_size}: it counts the samples of all {ranks.size} ranks, which cannot share them "
            f"equally. The nearest that they can: {nearest}."
        )
