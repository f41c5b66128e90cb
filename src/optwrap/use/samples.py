"""What data says of its samples beside their values: names, classes, what of a batch a model is called with."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Subset

from optwrap.errors import ConfigError, first_line
from optwrap.run.data.splits import Splits, is_stream


def inputs_of(batch: Any) -> Any:
    """Return what a model is called with: the first of a batch of several parts, or the batch, if it is a tensor.

    None where the batch does not say.
    """
    if isinstance(batch, list | tuple) and batch:
        return batch[0]
    return batch if isinstance(batch, Tensor) else None


def names_of(samples: Any) -> Callable[[int], str] | None:
    """Return what names a sample by its number; None where the data set gives no names.

    It gives them as a sequence `names`, or as torchvision's folders of files do, as `samples` of (path, class).
    """
    if is_stream(samples):
        return None
    if isinstance(samples, Subset) and not hasattr(samples, "names"):
        inner = names_of(samples.dataset)
        return None if inner is None else lambda row: inner(samples.indices[row])
    names, files = getattr(samples, "names", None), getattr(samples, "samples", None)
    if names is not None:
        return lambda row: str(names[row])
    if isinstance(files, list) and files and isinstance(files[0], tuple) and isinstance(files[0][0], str):
        root = getattr(samples, "root", None)
        return lambda row: os.path.relpath(files[row][0], root) if root else files[row][0]
    return None


def preprocessing_of(splits: Splits) -> dict[str, Any] | None:
    """Return the numbers by which inputs are made of samples, where the data says them.

    Raises:
        ConfigError: they are no plain values.
    """
    if not isinstance(splits.preprocessing, Mapping):
        return None
    said = dict(splits.preprocessing)
    try:
        json.dumps(said)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"data.preprocessing: it is a dict of numbers, texts and lists of them ({first_line(error)})."
        ) from error
    return said


def classes_of(splits: Splits) -> Sequence[str] | None:
    """Return the names of the classes, where the data gives names.

    Raises:
        ConfigError: two classes have one name.
    """
    names = splits.classes
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"data.classes: {', '.join(twice[:3])} is the name of two classes. Give each its own.")
    return names
