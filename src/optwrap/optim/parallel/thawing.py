"""Freezing parameters for a while, and thawing them, as training goes."""

import math
from collections.abc import Sequence

from torch import Tensor

from optwrap.errors import ConfigError
from optwrap.optim.assignment.freezing import Frozen


class Freezer:
    """Keeps parameters from training until their time.

    A frozen one requires no gradient, so that none is computed. In a data-parallel model, which expects those
    that it began with, gradients are computed and dropped before the step. Either way the optimizer passes over
    it: no weight decay, no state.

    Args:
        parts: what is frozen, for how long.
        data_parallel: whether the model is.
    """

    def __init__(self, parts: Sequence[Frozen], data_parallel: bool = False) -> None:
        self.updates_per_epoch: float | None = None  # a run knows it
        self._parts, self._drops = list(parts), data_parallel
        self._ends: list[float] | None = None
        self._held: list[Tensor] = []
        self._hold([param for part in parts for param in part.params])

    def start(self, updates: int, planned: int | None) -> None:
        """Begin, or go on, after so many updates of `planned` (None: unknown).

        Raises:
            ConfigError: a part of the run, or epochs, are given, and nobody knows how many updates these are.
        """
        self._ends = [self._end(part, planned) for part in self._parts]
        self.thaw(updates)

    def thaw(self, updates: int) -> None:
        """Let train again what has waited for so many updates."""
        if self._ends is None:
            self._ends = [self._end(part, None) for part in self._parts]
        ends = zip(self._parts, self._ends, strict=True)
        held = [param for part, end in ends if updates < end for param in part.params]
        if len(held) != len(self._held):
            self._hold(held)

    def drop(self) -> None:
        """Drop the gradients of what is frozen."""
        for param in self._held:
            param.grad = None

    def trains(self, params: Sequence[Tensor]) -> list[Tensor]:
        """Return those that are not frozen."""
        held = {id(param) for param in self._held}
        return [param for param in params if id(param) not in held]

    def _hold(self, params: list[Tensor]) -> None:
        for param in self._held:
            param.requires_grad_(True)
        for param in () if self._drops else params:
            param.requires_grad_(False)
            param.grad = None
        self._held = params

    def _end(self, part: Frozen, planned: int | None) -> float:
        if part.until is None:
            return math.inf
        if part.unit == "updates":
            return part.until
        number = planned if part.unit == "parts" else self.updates_per_epoch
        if number is None:
            raise ConfigError(
                f"optim_wrapper.freeze.{part.pattern}: {part.text}, which is an unknown number of updates. Tell "
                "the wrapper by initialize_count_status(model, 0, max_counts), or give a number of updates."
            )
        return math.ceil(part.until * number)
