"""Which parameters are frozen until when, as data: patterns of names to numbers of updates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.assignment.table import Assignment

_KEY = "optim_wrapper.freeze"
_VALUES = "a number of updates, below 1 a part of the run, {epochs: n}, or null for the whole run"


@dataclass(frozen=True)
class Frozen:
    """Parameters of one pattern; `until` counts `unit`: updates, epochs or parts of the run; None: always."""

    pattern: str
    params: tuple[Tensor, ...]
    until: float | None
    unit: str = "updates"

    @property
    def text(self) -> str:
        """Say it for the table.

        >>> Frozen("stem", (), 3, "epochs").text, Frozen("stem", (), 0.5, "parts").text
        ('frozen for 3 epochs', 'frozen for 0.5 of the run')
        """
        if self.until is None:
            return "frozen"
        counted = "of the run" if self.unit == "parts" else self.unit
        return f"frozen for {self.until:g} {counted.removesuffix('s') if self.until == 1 else counted}"


def parse_freeze(config: Mapping[str, Any] | None, assignments: Sequence[Assignment]) -> list[Frozen]:
    """Return what `config` freezes of the assigned parameters, and note it in their rules.

    Args:
        config: part of a name to how long it is frozen: a number of updates, below 1 a part of the run,
            `{epochs: n}`, or None for the whole run. Of several parts in one name the longest counts.

    Raises:
        ConfigError: a part is in no name, or a value is none of these.
    """
    patterns = dict(config or {})
    found = []
    for pattern, value in patterns.items():
        matches = [each for each in assignments if pattern in each.name]
        if not matches:
            names = {".".join(each.name.split(".")[:i]) for each in assignments for i in range(1, 9)}
            raise ConfigError(
                f"{_KEY}.{pattern}: no trainable parameter has this in its name."
                f"{did_you_mean(pattern, sorted(names))}"
            )
        until, unit = _until(pattern, value)
        longest = [each for each in matches if pattern == _longest(each.name, patterns)]
        part = Frozen(pattern, tuple(each.tensor for each in longest), until, unit)
        for each in longest:
            each.rule = f"{each.rule}, {part.text}"
        found.append(part)
    return found


def _longest(name: str, patterns: Mapping[str, Any]) -> str:
    return max((pattern for pattern in patterns if pattern in name), key=len)


def _until(pattern: str, value: Any) -> tuple[float | None, str]:
    if value is None:
        return None, "updates"
    unit = "updates"
    number = value
    if isinstance(value, Mapping):
        if set(value) != {"epochs"}:
            raise ConfigError(f"{_KEY}.{pattern}={dict(value)!r}: it is {_VALUES}.")
        number, unit = value["epochs"], "epochs"
    if isinstance(number, bool) or not isinstance(number, int | float) or number <= 0:
        raise ConfigError(f"{_KEY}.{pattern}={value!r}: it is {_VALUES}.")
    if unit == "updates" and number < 1:
        return float(number), "parts"
    if unit == "updates" and number != int(number):
        raise ConfigError(f"{_KEY}.{pattern}={value!r}: it is {_VALUES}.")
    return float(number), unit
