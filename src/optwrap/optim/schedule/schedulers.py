"""Schedulers of our own: torch's, with lengths given as fractions of the run."""

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

from optwrap.errors import ConfigError


def warmup_cosine(
    optimizer: Optimizer, total_updates: int, warmup: float = 0.1, min_factor: float = 0.0
) -> LRScheduler:
    """Rise linearly over `warmup` updates (a fraction of the run if below 1), then follow a half cosine.

    Ends at `min_factor` times the base value. Source: Loshchilov and Hutter, SGDR, 2017; Goyal et al., 2017.
    """
    rise = _updates("schedule.lr.warmup", warmup, total_updates)
    fall = max(total_updates - rise, 1)

    def factor(update: int) -> float:
        if update < rise:
            return (update + 1) / (rise + 1)
        progress = min((update - rise) / fall, 1.0)
        return min_factor + (1 - min_factor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def multi_step(
    optimizer: Optimizer, total_updates: int, milestones: Sequence[float] = (0.5, 0.75), gamma: float = 0.1
) -> LRScheduler:
    """Multiply by `gamma` at each milestone: an update, or a fraction of the run if below 1."""
    at = [_updates("schedule.lr.milestones", milestone, total_updates) for milestone in milestones]
    return MultiStepLR(optimizer, at, gamma)


def _updates(key: str, value: float, total_updates: int) -> int:
    if not 0 <= value <= total_updates:
        raise ConfigError(
            f"{key}={value!r}: it is a number of updates up to the run's {total_updates}, or a fraction below 1."
        )
    return round(value * total_updates) if value < 1 else round(value)
