"""What a project's data is: splits of samples, each a data set or a stream, given as attributes or by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, Subset

from optwrap.errors import ConfigError, did_you_mean

EVALUATED = ("val", "test")
_SPLITS = ("train", *EVALUATED)
_COLLATE, _FINGERPRINT, _CLASSES, _PREPROCESSING = "collate_fn", "fingerprint", "classes", "preprocessing"


@dataclass(frozen=True)
class Splits:
    """The data of a run: what it trains on, and what it evaluates, where there is any.

    `collate_fn` makes a batch of a list of samples; one that a data set has itself comes before it.
    `fingerprint()` tells the data from any other, `classes` are the names of its classes, `preprocessing` the
    numbers by which inputs are made of samples; None where nobody says.
    """

    train: Any
    val: Any = None
    test: Any = None
    collate_fn: Callable[[list[Any]], Any] | None = None
    fingerprint: Callable[[], Any] = field(default=lambda: None)
    classes: Sequence[str] | None = None
    preprocessing: Mapping[str, Any] | None = None

    def evaluated(self, split: str) -> Any:
        """Return the samples of a split as they are evaluated: those of train without augmentation, if it can.

        Raises:
            ConfigError: there is none.
        """
        samples = getattr(self, split)
        if samples is None:
            there = [f" Use split={each}." for each in EVALUATED if getattr(self, each) is not None]
            raise ConfigError(f"split={split}: data.{split} is missing or empty.{''.join(there)}")
        return samples if split in EVALUATED else unaugmented(samples)


def find_splits(data: Any) -> Splits:
    """Return the splits of what `cfg.data` gave: attributes of an object, or entries of a mapping.

    `val` or `test` may be absent, None or empty: then there is none.

    Raises:
        ConfigError: there is nothing to train on, a split holds no samples but a DataLoader or something else, or
            a mapping has another entry.
    """
    if isinstance(data, Splits):
        return data
    given = data if isinstance(data, Mapping) else _attributes(data)
    for name in given:
        if name not in (*_SPLITS, _COLLATE, _FINGERPRINT, _CLASSES, _PREPROCESSING):
            raise ConfigError(
                f"data.{name}: the splits of data are train, val and test.{did_you_mean(str(name), _SPLITS)} "
                "Name it so, or leave it out."
            )
    found = {name: given.get(name) for name in _SPLITS}
    for name, samples in found.items():
        if samples is not None:
            _check(name, samples)
    found = {name: None if length_of(samples) == 0 else samples for name, samples in found.items()}
    if found["train"] is None:
        empty = given.get("train") is not None
        raise ConfigError(f"data.train is {'empty' if empty else 'missing'}: there is nothing to train on.")
    # Asked for once, by a run that records it: it may read all samples.
    fingerprint = partial(_entry, data, _FINGERPRINT)
    facts = {name: _entry(data, name) or attribute_of(found["train"], name) for name in (_CLASSES, _PREPROCESSING)}
    return Splits(**found, collate_fn=given.get(_COLLATE), fingerprint=fingerprint, **facts)


def is_stream(samples: Any) -> bool:
    """Whether samples come one after the other, and none by its number."""
    return isinstance(samples, IterableDataset) or not hasattr(samples, "__getitem__")


def length_of(samples: Any) -> int | None:
    """Return the number of samples; None of a stream that does not know it, and where there is none."""
    try:
        return len(samples)
    except (TypeError, NotImplementedError):
        return None


def own_collate_fn(samples: Any) -> Callable[[list[Any]], Any] | None:
    """Return the `collate_fn` of a data set, also of one that it is a part of."""
    return attribute_of(samples, _COLLATE)


def attribute_of(samples: Any, name: str) -> Any:
    """Return an attribute of a data set, or of the one that it is a part of; None where there is none."""
    while isinstance(samples, Subset) and not hasattr(samples, name):
        samples = samples.dataset
    return getattr(samples, name, None)


def unaugmented(samples: Any) -> Any:
    """Return the same samples without augmentation, where the data set has a method `unaugmented()`."""
    if isinstance(samples, Subset):
        return Subset(unaugmented(samples.dataset), samples.indices)
    return samples.unaugmented() if hasattr(samples, "unaugmented") else samples


def _entry(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, Mapping) else getattr(data, name, None)


def _attributes(data: Any) -> dict[str, Any]:
    return {name: getattr(data, name) for name in (*_SPLITS, _COLLATE) if hasattr(data, name)}


def _check(name: str, samples: Any) -> None:
    if isinstance(samples, DataLoader):
        raise ConfigError(f"data.{name} is a DataLoader: give its data set. The run makes the batches.")
    if is_stream(samples):
        if hasattr(samples, "__iter__") and not hasattr(samples, "__next__"):
            return
        what = "an iterator, which can be read once" if hasattr(samples, "__next__") else "no data set"
        raise ConfigError(
            f"data.{name} is {what} ({type(samples).__name__}): give a Dataset, or an IterableDataset whose "
            "__iter__ begins anew each time."
        )
    if length_of(samples) is None:
        raise ConfigError(
            f"data.{name}: {type(samples).__name__} has no __len__. Give it one, or make it an IterableDataset."
        )
