"""The factor on the lr that follows the number of samples in an update, as data."""

import inspect
from collections.abc import Mapping
from typing import Any

from optwrap.errors import ConfigError, did_you_mean

FIELDS = ("base_batch_size", "batch_size", "rule")
RULES = ("linear", "sqrt")
_KEY = "optim_wrapper.auto_scale_lr"


def lr_factor(config: Mapping[str, Any] | None, optimizer: type, accumulative_counts: int) -> tuple[float, str]:
    """Return the factor on the lr, and how it came about; 1 and '' where `base_batch_size` is None.

    Args:
        config: `base_batch_size`: samples of an update that the lr is right for; `batch_size`: those of a
            micro-batch, over all processes; `rule`: `linear` (Goyal et al. 2017), `sqrt` (Malladi et al. 2022), or
            None: the root for optimizers whose steps do not grow with the gradient, such as Adam.
        optimizer: the class of the optimizer.

    Raises:
        ConfigError: a field is unknown or out of range.

    >>> from torch.optim import SGD, Adam
    >>> lr_factor({"base_batch_size": 64, "batch_size": 128}, SGD, accumulative_counts=2)
    (4.0, 'lr x 4: 256 samples an update for 64, linear')
    >>> lr_factor({"base_batch_size": 64, "batch_size": 128}, Adam, accumulative_counts=2)
    (2.0, 'lr x 2: 256 samples an update for 64, sqrt')
    """
    config = dict(config or {})
    for name, value in config.items():
        if name not in FIELDS:
            raise ConfigError(f"{_KEY}.{name}={value!r}: there is no such field.{did_you_mean(name, FIELDS)}")
    base: Any = config.get("base_batch_size")
    rule = config.get("rule")
    if base is None:
        return 1.0, ""
    size: Any = config.get("batch_size")
    for name, value in (("base_batch_size", base), ("batch_size", size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{_KEY}.{name}={value!r}: it is a number of samples, 1 or more.")
    if rule not in (None, *RULES):
        raise ConfigError(f"{_KEY}.rule={rule!r}: it is linear, sqrt, or null: as suits the optimizer.")
    rule = rule or ("sqrt" if _normalises(optimizer) else "linear")
    samples = size * accumulative_counts
    ratio = samples / base
    factor = ratio if rule == "linear" else ratio**0.5
    return factor, f"lr x {factor:g}: {samples} samples an update for {base}, {rule}"


def _normalises(optimizer: type) -> bool:
    """Whether its steps are of a size that does not grow with the gradient."""
    parameters = inspect.signature(optimizer).parameters
    names = ("Muon", "RMSprop", "Adagrad", "Adadelta", "Adafactor", "Rprop")
    return "betas" in parameters or "beta1" in parameters or optimizer.__name__ in names
