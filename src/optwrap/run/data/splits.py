"""What a project's data is: splits of samples, each a data set or a stream, given as attributes or by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, Subset

from optwrap.errors import ConfigError, did_you_mean

EVALUATED = ("val", "test")
_SPLITS = ("train", *EVALUATED)
_COLLATE, _FINGERPRINT = "collate_fn", "fingerprint"


@dataclass(frozen=True)
class Splits:
    """The data of a run: what it trains on, and what it evaluates, where there is any.

    `collate_fn` makes a batch of a list of samples; one that a data set has itself comes before it.
    `fingerprint()` tells the data from any other, None where nobody says.
    """

    train: Any
    val: Any = None
    test: Any = None
    collate_fn: Callable[[list[Any]], Any] | None = None
    fingerprint: Callable[[], Any] = field(default=lambda: None)


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
        if name not in (*_SPLITS, _COLLATE, _FINGERPRINT):
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
    return Splits(**found, collate_fn=given.get(_COLLATE), fingerprint=fingerprint)


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
    while isinstance(samples, Subset) and not hasattr(samples, _COLLATE):
        samples = samples.dataset
    return getattr(samples, _COLLATE, None)


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
