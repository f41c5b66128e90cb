"""From data sets to batches on the device."""

import itertools
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from optwrap.errors import ConfigError


@dataclass(frozen=True)
class Loaders:
    """The loaders of a run: `train` shuffles and drops a last, smaller batch; `val` and `test` keep all."""

    train: DataLoader[Any]
    val: DataLoader[Any]
    test: DataLoader[Any]


def make_loaders(data: Any, batch_size: int, num_workers: int, seed: int, device: torch.device) -> Loaders:
    """Return loaders of `data.train`, `data.val` and `data.test`.

    Raises:
        ConfigError: a number is out of range, or not one training batch is full.
    """
    for key, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value < least:
            raise ConfigError(f"{key}={value}: it must be {least} or more.")
    samples = len(cast(Sized, data.train))
    if batch_size > samples:
        raise ConfigError(f"batch_size={batch_size} is more than the {samples} training samples: lower it.")

    def loader(dataset: Dataset[Any], training: bool) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size,
            shuffle=training,
            drop_last=training,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator().manual_seed(seed),
        )

    return Loaders(loader(data.train, True), loader(data.val, False), loader(data.test, False))


def batches(
    loader: Iterable[Any], device: torch.device, channels_last: bool, limit: int | None = None
) -> Iterator[Any]:
    """Yield batches on the device: one pass over `loader`, or pass after pass until there were `limit`."""
    passes = [loader] if limit is None else itertools.repeat(loader)
    for batch in itertools.islice(itertools.chain.from_iterable(passes), limit):
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
