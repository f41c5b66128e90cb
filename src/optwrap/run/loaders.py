"""From data sets to batches on the device.

A batch is a function of the seed and of its place in the run: its samples, and every random number that augments
them. Nothing of a loader has to be saved, so a run goes on at any micro-batch, with any number of workers.
"""

import signal
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from optwrap.errors import ConfigError
from optwrap.plan.order import BatchIndex, EvaluationOrder, TrainingOrder
from optwrap.plan.random_state import seeded
from optwrap.plan.ranks import ALONE, Ranks
from optwrap.program.interruption import is_open

# Seconds that a worker lives on after SIGTERM: until the run has ended, or until a scheduler kills both, whose own
# handler lets the run go on.
_GRACE, _SCHEDULERS_GRACE = 30, 3600


class SeededBatches(Dataset[Any]):
    """The batches of a dataset: `batches[BatchIndex(rows, seed)]` draws its random numbers from that seed."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __getitem__(self, index: BatchIndex) -> Any:
        with seeded(index.seed):
            if hasattr(self.samples, "__getitems__"):
                return default_collate(self.samples.__getitems__(index.rows))
            return default_collate([self.samples[row] for row in index.rows])


@dataclass(frozen=True)
class Loaders:
    """The batches of a run: `training` of any part of it, `val` and `test` of the whole sets."""

    order: TrainingOrder
    val: DataLoader[Any]
    test: DataLoader[Any]
    _train: Any
    _options: dict[str, Any]

    @property
    def per_epoch(self) -> int:
        """Training batches to an epoch; a last, smaller one is dropped."""
        return self.order.per_epoch

    def training(self, first: int, last: int) -> DataLoader[Any]:
        """Return the training batches from number `first` to before `last`, counted over all epochs."""
        part = _Part(self.order, first, last)
        return DataLoader(SeededBatches(self._train), batch_size=None, sampler=part, **self._options)


@dataclass(frozen=True)
class _Part:
    order: TrainingOrder
    first: int
    last: int

    def __iter__(self) -> Iterator[BatchIndex]:
        return self.order.between(self.first, self.last)

    def __len__(self) -> int:
        return max(0, self.last - self.first)


def make_loaders(
    data: Any, batch_size: int, num_workers: int, seed: int, device: torch.device, ranks: Ranks = ALONE
) -> Loaders:
    """Return loaders of `data.train`, `data.val` and `data.test`; each of several ranks gets its part.

    `batch_size` counts the samples of a micro-batch over all ranks.

    Raises:
        ConfigError: a number is out of range, not one training batch is full, or the ranks cannot share a batch.
    """
    for key, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value < least:
            raise ConfigError(f"{key}={value}: it must be {least} or more.")
    samples = len(cast(Sized, data.train))
    if batch_size > samples:
        raise ConfigError(f"batch_size={batch_size} is more than the {samples} training samples: lower it.")
    _check_shares(batch_size, ranks)
    options: dict[str, Any] = {
        "num_workers": num_workers,
        "pin_memory": device.type == "cuda",
        "worker_init_fn": partial(
            _leave_signals_to_the_run, _GRACE if is_open(signal.SIGTERM) else _SCHEDULERS_GRACE
        ),
        # Its own, or starting an iterator would draw from the generator that the model uses.
        "generator": torch.Generator().manual_seed(seed),
    }

    def evaluation(split: Dataset[Any]) -> DataLoader[Any]:
        order = EvaluationOrder(len(cast(Sized, split)), batch_size, seed, ranks)
        if order.samples < ranks.size:
            raise ConfigError(f"{ranks.size} ranks cannot share the {order.samples} samples of an evaluation.")
        # Not persistent_workers: those still live when the process ends, which then waits for them.
        return DataLoader(SeededBatches(split), batch_size=None, sampler=order, **options)

    order = TrainingOrder(samples, batch_size, seed, ranks)
    return Loaders(order, evaluation(data.val), evaluation(data.test), data.train, options)


def _check_shares(batch_size: int, ranks: Ranks) -> None:
    rest = batch_size % ranks.size
    if rest:
        lower, higher = batch_size - rest, batch_size - rest + ranks.size
        nearest = f"{lower} or {higher}" if lower else str(higher)
        raise ConfigError(
            f"batch_size={batch_size}: it counts the samples of all {ranks.size} ranks, which cannot share them "
            f"equally. The nearest that they can: {nearest}."
        )


def batches(loader: Iterable[Any], device: torch.device, channels_last: bool) -> Iterator[Any]:
    """Yield the batches of `loader` on the device."""
    for batch in loader:
        yield to_device(batch, device, channels_last)


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
