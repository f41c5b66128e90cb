"""What a project's data is: its splits, and how samples become a batch."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, Subset, default_collate

from optwrap.errors import ConfigError, did_you_mean, first_line

SPLITS = ("train", "val", "test")


def find_splits(data: Any) -> Any:
    """Return what `cfg.data` gave as an object with `train`, `val` and `test`; a mapping may have them as entries.

    Raises:
        ConfigError: a split is missing or empty, or is no data set whose samples have a number.
    """
    if isinstance(data, Mapping):
        for name in data:
            if name not in SPLITS:
                raise ConfigError(
                    f"data.{name}: the splits of data are train, val and test.{did_you_mean(str(name), SPLITS)}"
                )
        data = SimpleNamespace(**data)
    for name in SPLITS:
        _check(name, getattr(data, name, None))
    return data


def _check(name: str, samples: Any) -> None:
    if samples is None:
        raise ConfigError(
            f"data.{name} is missing: a run trains on data.train, is judged on data.val and ends with data.test. "
            "Where there is no third set, give one of them twice, or hold samples out "
            "(torch.utils.data.random_split)."
        )
    if isinstance(samples, DataLoader):
        raise ConfigError(f"data.{name} is a DataLoader: give its data set. The run makes the batches.")
    if isinstance(samples, IterableDataset) or not (
        hasattr(samples, "__getitem__") and hasattr(samples, "__len__")
    ):
        raise ConfigError(
            f"data.{name} is a {type(samples).__name__}: a run takes data sets whose samples have a number, with "
            "__getitem__ and __len__, so that it can go on at any place. Give a stream's samples numbers."
        )
    if len(samples) == 0:
        raise ConfigError(f"data.{name} is empty: it needs one sample at least.")


def collate_of(samples: Any) -> Callable[[list[Any]], Any]:
    """Return what makes a batch of a list of samples: the data set's own `collate_fn`, else torch's."""
    whole = samples
    while isinstance(whole, Subset) and not hasattr(whole, "collate_fn"):
        whole = whole.dataset
    return getattr(whole, "collate_fn", _collated)


def _collated(samples: list[Any]) -> Any:
    try:
        return default_collate(samples)
    except (RuntimeError, TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(
            f"data: these samples cannot be put into one batch ({first_line(error)}). Give the data set a method "
            "collate_fn(samples), which makes a batch of a list of them, as by padding."
        ) from error
