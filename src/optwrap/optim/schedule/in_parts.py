"""What moves a hyperparameter by a schedule in parts: its value at each place, for each param group."""

from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from optwrap.optim.schedule.parts import Part, Parts

Move = Callable[[float, float, float], float]
"""From a value to the next one, by a group's own value and the base value."""


class InParts:
    """Counts updates, and has the value of each param group at that place.

    Parts act one after another, each on the value that those before it left, which stays after their end. Parts
    that act together multiply; where one of these falls to a floor, the value goes from update to update. What is
    given as a value of its own, not as a factor, is the same for all groups, but a group at 0 stays there.

    Args:
        optimizer: its `lr`, beside `base`, is what a plateau moves.
        parts: the parts.
        plateau: the ReduceLROnPlateau of the last one.
    """

    def __init__(self, optimizer: Optimizer, parts: Parts, plateau: ReduceLROnPlateau | None = None) -> None:
        self.optimizer, self.plateau = optimizer, plateau
        self._parts, self._position = parts, 0
        self._shapes = [part for part in parts.parts if part.shape is not None]
        self._walks = _floor_beside_another(self._shapes)
        self._walked: dict[tuple[float, float], tuple[int, float]] = {}
        self._last_moves: tuple[int, list[Move]] = (-1, [])
        self._move()

    @property
    def waits_for_metrics(self) -> bool:
        """Whether the plateau has begun."""
        return self.plateau is not None and self._position >= self._parts.parts[-1].first

    def value(self, own: float, group: Mapping[str, Any]) -> float:
        """Return the value of a param group that began at `own`; `group` is one of `optimizer`, with its base."""
        if own == group["base"]:
            return float(group["lr"])
        value = self._at_place(own, group["base"])
        if not self.waits_for_metrics:
            return value
        before = self._at_place(group["base"], group["base"])
        return value * (group["lr"] / before) if before else value

    def step(self) -> None:
        """Go on by one update."""
        self._position += 1
        if not self.waits_for_metrics or self._position == self._parts.parts[-1].first:
            self._move()

    def step_on_metric(self, value: float) -> None:
        """Show a metric to the plateau, once it has begun."""
        if self.plateau is not None and self.waits_for_metrics:
            self.plateau.step(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the place, what the plateau has seen, and how long the run and its epochs are."""
        clock = self._parts.clock
        lengths = [clock.updates, None if clock.per_epoch is None else str(clock.per_epoch)]
        plateau = {} if self.plateau is None else {"plateau": self.plateau.state_dict()}
        return {"position": self._position, "lengths": lengths, **plateau}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._position = state_dict["position"]
        if self.plateau is not None:
            self.plateau.load_state_dict(state_dict["plateau"])

    def _move(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._at_place(group["base"], group["base"])

    def _at_place(self, own: float, base: float) -> float:
        if own == 0:
            return 0.0
        if not self._walks:
            return _moved(self._moves(self._position), own, own, base)
        at, value = self._walked.get((own, base), (-1, own))
        for update in range(at + 1, self._position + 1):
            value = _moved(self._moves(update), value, own, base)
        self._walked[own, base] = (self._position, value)
        return value

    def _moves(self, update: int) -> list[Move]:
        """Return the moves to an update: from a group's own value or, where it walks, from the update before."""
        if self._last_moves[0] != update:
            moves = moves_after(self._shapes, update) if self._walks else moves_to(self._shapes, update)
            self._last_moves = (update, moves)
        return self._last_moves[1]


def moves_to(parts: list[Part], update: int) -> list[Move]:
    """Return what leads to the value at an update: each part goes on from what those before it left."""
    begun = sorted((part for part in parts if update >= part.first), key=lambda each: each.first)
    return [_on_from(part, part.span.step(update)) for part in begun]


def moves_after(parts: list[Part], update: int) -> list[Move]:
    """Return what leads from one update to the next: each part takes the value a step further.

    Parts that step once an epoch come last.
    """
    moves = []
    for part in sorted(parts, key=lambda each: each.span.unit != 1):
        if update == part.first:
            moves.append(_on_from(part, part.span.step(update)))
        elif update > part.first and part.span.step(update - 1) != part.span.step(update):
            moves.append(_further(part, part.span.step(update - 1), part.span.step(update)))
    return moves


def _moved(moves: list[Move], value: float, own: float, base: float) -> float:
    for move in moves:
        value = move(value, own, base)
    return value


def _on_from(part: Part, step: int) -> Move:
    """Return what leads from the value that a part begins with to that of one of its steps."""
    shape = part.shape
    assert shape is not None
    weight, factor = shape.weight(step), shape.factor(step)

    def move(value: float, own: float, base: float) -> float:
        begun_at = value if shape.peak is None else shape.peak.of(own, base)
        if shape.floor.number == 0:
            return begun_at * weight * factor
        floor = shape.floor.of(own, base)
        return floor + (begun_at * weight - floor) * factor

    return move


def _further(part: Part, before: int, step: int) -> Move:
    """Return what leads from the value of one step of a part to that of the next."""
    shape = part.shape
    assert shape is not None
    begins_again = shape.peak is not None or shape.weight(before) != shape.weight(step)
    if begins_again or shape.factor(before) == 0:
        from_own = _on_from(part, step)
        return lambda _, own, base: from_own(own, own, base)
    ratio = shape.factor(step) / shape.factor(before)

    def move(value: float, own: float, base: float) -> float:
        floor = shape.floor.of(own, base)
        return floor + (value - floor) * ratio

    return move


def _floor_beside_another(parts: list[Part]) -> bool:
    """Whether a part that falls to a floor other than 0 acts together with another one."""
    return any(
        one is not other and one.first < other.span.end and other.first < one.span.end
        for one in parts
        if one.shape is not None and one.shape.floor.number
        for other in parts
    )
