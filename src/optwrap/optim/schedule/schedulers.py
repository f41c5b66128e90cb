"""Schedulers of our own: torch's, with lengths given as fractions of the run, and a plateau after a warm-up."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, ReduceLROnPlateau, SequentialLR

from optwrap.errors import ConfigError


def warmup_cosine(
    optimizer: Optimizer, total_updates: int, warmup: float = 0.1, min_factor: float = 0.0
) -> LRScheduler:
    """Rise linearly over `warmup` updates (a fraction of the run if below 1), then follow a half cosine.

    Ends at `min_factor` times the base value. Source: Loshchilov and Hutter, SGDR, 2017; Goyal et al., 2017.
    """
    rise = _updates("schedule.lr.warmup", warmup, total_updates)
    return LambdaLR(optimizer, _WarmupCosine(rise, max(total_updates - rise, 1), min_factor))


class _WarmupCosine:
    """The factor on the base value; an object, since torch saves the attributes of one with the scheduler."""

    def __init__(self, rise: int, fall: int, min_factor: float) -> None:
        self.rise, self.fall, self.min_factor = rise, fall, min_factor

    def __call__(self, update: int) -> float:
        if update < self.rise:
            return (update + 1) / (self.rise + 1)
        progress = min((update - self.rise) / self.fall, 1.0)
        return self.min_factor + (1 - self.min_factor) * 0.5 * (1 + math.cos(math.pi * progress))


def poly(
    optimizer: Optimizer,
    total_updates: int,
    power: float = 1.0,
    min_factor: float | None = None,
    eta_min: float | None = None,
) -> LRScheduler:
    """Fall from the base value to a floor as (1 - progress) ** `power`.

    The floor is `min_factor` times the base value or, where it is given, `eta_min`. torch's PolynomialLR has none.
    """
    if min_factor is not None and eta_min is not None:
        raise ConfigError("schedule.lr: min_factor and eta_min say the same. Keep one; null is none.")
    for name, value in (("power", power), ("min_factor", min_factor), ("eta_min", eta_min)):
        if value is not None and value < 0:
            raise ConfigError(f"schedule.lr.{name}={value!r}: it is a number, 0 or more.")
    bases = [float(group.get("base", group["lr"])) for group in optimizer.param_groups]
    floors = [min_factor or 0.0 if eta_min is None else eta_min / base if base else 0.0 for base in bases]
    return LambdaLR(optimizer, [_Poly(total_updates, power, floor) for floor in floors])


class _Poly:
    """The factor on the base value."""

    def __init__(self, total_updates: int, power: float, floor: float) -> None:
        self.total_updates, self.power, self.floor = total_updates, power, floor

    def __call__(self, update: int) -> float:
        left = 1 - min(update / self.total_updates, 1.0)
        return float(self.floor + (1 - self.floor) * left**self.power)


def multi_step(
    optimizer: Optimizer, total_updates: int, milestones: Sequence[float] = (0.5, 0.75), gamma: float = 0.1
) -> LRScheduler:
    """Multiply by `gamma` at each milestone: an update, or a fraction of the run if below 1."""
    at = [_updates("schedule.lr.milestones", milestone, total_updates) for milestone in milestones]
    return MultiStepLR(optimizer, at, gamma)


class PlateauAfter:
    """A ReduceLROnPlateau that begins, at the base value, where other schedulers have ended.

    torch's SequentialLR takes none. The arguments are those of SequentialLR, the plateau is the last in the list.
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Any], milestones: Sequence[int]) -> None:
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(f"{len(schedulers)} schedulers need one milestone less, not {len(milestones)}.")
        self.optimizer = optimizer
        self.first: LRScheduler = SequentialLR(optimizer, list(schedulers[:-1]), list(milestones[:-1]))
        self.plateau: ReduceLROnPlateau = schedulers[-1]
        self._begins, self._position = milestones[-1], 0

    @property
    def waits_for_metrics(self) -> bool:
        """Whether the plateau has begun."""
        return self._position >= self._begins

    def step(self) -> None:
        """Go on by one update."""
        self._position += 1
        if self._position < self._begins:
            self.first.step()
        elif self._position == self._begins:
            for group in self.optimizer.param_groups:
                group["lr"] = group.get("base", group["initial_lr"])  # others, such as OneCycleLR, move the latter

    def step_on_metric(self, value: float) -> None:
        """Show a metric to the plateau, once it has begun."""
        if self.waits_for_metrics:
            self.plateau.step(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the parts."""
        return {
            "position": self._position,
            "begins": self._begins,
            "first": self.first.state_dict(),
            "plateau": self.plateau.state_dict(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._position = state_dict["position"]
        self.first.load_state_dict(state_dict["first"])
        self.plateau.load_state_dict(state_dict["plateau"])


def _updates(key: str, value: float, total_updates: int) -> int:
    if not 0 <= value <= total_updates:
        raise ConfigError(
            f"{key}={value!r}: it is a number of updates up to the run's {total_updates}, or a fraction below 1."
        )
    return round(value * total_updates) if value < 1 else round(value)
