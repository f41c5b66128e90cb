"""Lengths and places in a run: updates, fractions of the run, or epochs, as configs write them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from optwrap.errors import ConfigError

Updates = int | Fraction
"""A number of updates or of steps, exact."""

FORMS = "updates (500), a fraction of the run (0.1), or epochs ('3 epochs')"
_FORMS_OF_EPOCHS = "epochs (3), a fraction of the run (0.1), or updates ('500 updates')"
_WORDS = re.compile(r"(\d+(?:\.\d+)?)\s*(epoch|update)s?")


@dataclass(frozen=True)
class Clock:
    """What a run counts: its updates, and how many of them make an epoch (None: nobody knows).

    Where it is `cut_short` for debugging, places beyond its end lie there.

    An update belongs to the epoch that its first micro-batch is of, as in `optim_wrapper.freeze`: where an epoch
    is no whole number of updates, the n-th one ends before update `ceil(n * per_epoch)`.
    """

    updates: int
    per_epoch: Fraction | None = None
    cut_short: bool = False

    def unit(self, per: str, key: str) -> Updates:
        """Return how many updates a step has: 1 `per` update, those of an epoch `per` epoch."""
        return 1 if per == "update" else self._epoch(f"{key}.per=epoch")

    def length(self, value: Any, key: str, unit: Updates) -> Updates:
        """Return how many updates `value` means; plain numbers count `unit`. A fraction is of the whole run.

        Raises:
            ConfigError: it is no length, or counts epochs that are unknown or end inside an update.
        """
        if isinstance(value, Mapping) and set(value) == {"epochs"}:  # as in optim_wrapper.freeze
            value = f"{value['epochs']} epochs"
        if isinstance(value, str):
            return self._of_words(value, key, unit)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ConfigError(_wrong(key, value, unit))
        if isinstance(value, float) and value == 1:
            raise ConfigError(f"{key}=1.0: is it one {_name(unit)} (1), or the whole run (leave it out)?")
        if isinstance(value, float) and value < 1:
            return whole(round(Fraction(value) * self.updates / unit) * unit)
        if value != int(value):
            raise ConfigError(_wrong(key, value, unit))
        return whole(int(value) * unit)

    def place(self, value: Any, key: str, unit: Updates) -> Updates:
        """Return the place in the run that `value` means, in updates: whole ones where `unit` is an update.

        Raises:
            ConfigError: as `length` does, or it lies beyond the end of the run.
        """
        place = self.length(value, key, unit)
        if self.cut_short:
            place = min(place, self.updates)
        if math.ceil(place) > self.updates:
            of_them = "" if self.per_epoch is None else f" ({float(self.updates / self.per_epoch):g} epochs)"
            raise ConfigError(
                f"{key}={value!r}: it lies beyond the run's {self.updates} updates{of_them}. Make it less, "
                "write it as a fraction of the run, or train for longer."
            )
        return math.ceil(place) if unit == 1 else place

    def _of_words(self, value: str, key: str, unit: Updates) -> Updates:
        found = _WORDS.fullmatch(value.strip())
        if found is None:
            raise ConfigError(_wrong(key, value, unit))
        number = Fraction(found[1])
        updates = number if found[2] == "update" else number * self._epoch(f"{key}={value!r}")
        if number.denominator != 1 and updates.denominator != 1:
            where = "" if self.per_epoch is None else f": an epoch has {float(self.per_epoch):g}"
            raise ConfigError(f"{key}={value!r}: it ends inside an update{where}. Give whole epochs or updates.")
        return whole(updates)

    def _epoch(self, given: str) -> Updates:
        if self.per_epoch is None:
            raise ConfigError(
                f"{given}: nobody knows how many updates an epoch of this run has. Count updates, or give "
                "fractions of the run."
            )
        return whole(self.per_epoch)


def whole(number: Updates) -> Updates:
    """Return a fraction that is a whole number as one, with which computing is quick."""
    return number.numerator if number.denominator == 1 else number


def _name(unit: Updates) -> str:
    return "update" if unit == 1 else "epoch"


def _wrong(key: str, value: Any, unit: Updates) -> str:
    return f"{key}={value!r}: it is a number of {FORMS if unit == 1 else _FORMS_OF_EPOCHS}."
