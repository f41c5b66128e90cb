"""The arguments of one shape, read from a config and checked."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.schedule.lengths import Clock, Updates, whole


@dataclass(frozen=True)
class Amount:
    """A value: a `factor` on a group's own one, what it is for the `base` value, or the `value` of every group."""

    kind: str
    number: float

    def of(self, own: float, base: float) -> float:
        """Return it for a group whose own value is `own`, under an optimizer whose base value is `base`."""
        if self.kind == "value":
            return self.number
        return self.number * own if self.kind == "factor" else self.number * (own / base)


@dataclass(frozen=True)
class Span:
    """Where a part lies: `begin` to `end` in updates, `unit` of which are a step of its shape.

    Its shape begins at step 0; it ends at `end`, or with the last step before it where `endpoint` is set. Where it
    begins inside an epoch, and steps once in each, its first step ends with that epoch.
    """

    begin: Updates
    end: Updates
    unit: Updates
    endpoint: bool

    @functools.cached_property
    def steps(self) -> Updates:
        """The steps from its first value to its last."""
        return max(self.after(self.end) - self.endpoint, 0)

    def step(self, update: int) -> int:
        """Return the step at an update that it has reached; after its end, the last one."""
        return min(update // self.unit - self.begin // self.unit, math.floor(self.steps))

    def after(self, place: Updates) -> Updates:
        """Return how many steps a place is after that of the begin."""
        return whole(Fraction(place) / self.unit - self.begin // self.unit)


class Arguments:
    """The arguments of one shape, where None is unset. What is asked for is known, and the rest is refused."""

    def __init__(self, shape: str, given: Mapping[str, Any], key: str, span: Span, clock: Clock) -> None:
        self._shape, self.key, self._clock = shape, key, clock
        self._given = {name: value for name, value in given.items() if value is not None}
        self._known: list[str] = []
        self.span = span

    def number(self, name: str, default: float | None, low: float = 0.0, high: float = math.inf) -> float:
        """Return a number from `low` to `high`; None for a default: it must be given."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            limit = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
            raise ConfigError(f"{self.key}.{name}={value!r}: it is a number, {limit}.")
        return value

    def choice(self, name: str, options: Sequence[Any]) -> Any:
        """Return one of `options`, by default the first."""
        value = self._take(name, options[0])
        if value not in options or type(value) is not type(options[0]):
            raise ConfigError(f"{self.key}.{name}={value!r}: it is {' or '.join(map(str, options))}.")
        return value

    def length(self, default: Updates | None = None) -> Updates:
        """Return the steps from the first value to the last: `length`, or else `default`, those of the part."""
        value = self._take("length", _PART)
        if value is not _PART:
            return self._steps("length", value)
        return self.span.steps if default is None else default

    def steps(self, name: str) -> Updates:
        """Return a length, which must be given, in steps."""
        return self._steps(name, self._take(name, None))

    def steps_in_list(self, name: str) -> list[Updates]:
        """Return a list of lengths, in steps."""
        return [self._steps(f"{name}[{i}]", each) for i, each in enumerate(self._list(name, None))]

    def numbers(self, name: str, default: list[float]) -> list[float]:
        """Return a list of numbers, each 0 or more."""
        values = self._list(name, default)
        for i, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ConfigError(f"{self.key}.{name}[{i}]={value!r}: it is a number, 0 or more.")
        return values

    def places(self, name: str) -> list[Updates]:
        """Return a list of places in the run, in steps from the part's begin."""
        found = []
        for i, value in enumerate(self._list(name, None)):
            place = self._clock.place(value, f"{self.key}.{name}[{i}]", self.span.unit)
            if not self.span.begin <= place <= self.span.end:
                raise ConfigError(
                    f"{self.key}.{name}[{i}]={value!r}: it counts from the run's begin, and the part goes from "
                    f"update {math.ceil(self.span.begin)} to {math.ceil(self.span.end)}. Place it inside."
                )
            found.append(self.span.after(place))
        return found

    def amount(self, end: str, default: float) -> Amount:
        """Return what `min_factor`, `eta_min` or `min_value` says, or neither of them; `end` is min, or max."""
        names = {f"{end}_factor": "factor", f"eta_{end}": "base", f"{end}_value": "value"}
        given = [name for name in names if name in self._given]
        if len(given) > 1:
            raise ConfigError(f"{self.key}: {' and '.join(given)} say the same. Keep one; null is none.")
        self._known += names
        return Amount(names[given[0]], self.number(given[0], None)) if given else Amount("factor", default)

    def check_all_known(self) -> None:
        """Raise ConfigError where an argument was given that nothing has asked for."""
        for name in self._given:
            if name not in self._known:
                raise ConfigError(
                    f"{self.key}.{name}: {self._shape} has no argument {name!r}."
                    f"{did_you_mean(name, self._known)} Its arguments: {', '.join(dict.fromkeys(self._known))}."
                )

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        value = self._given.get(name, default)
        if value is None or value == "???":
            raise ConfigError(f"{self.key}.{name} is not set: {self._shape} needs it, as in {self.key}.{name}=...")
        return value

    def _list(self, name: str, default: list[float] | None) -> list[Any]:
        value = self._take(name, default)
        if not isinstance(value, list):
            raise ConfigError(f"{self.key}.{name}={value!r}: it is a list, such as [{value}].")
        return value

    def _steps(self, name: str, value: Any) -> Updates:
        length = Fraction(self._clock.length(value, f"{self.key}.{name}", self.span.unit)) / self.span.unit
        if length == 0:
            raise ConfigError(f"{self.key}.{name}={value!r}: it is 1 or more.")
        return whole(length)


_PART = object()
