"""Schedules: hyperparameters that move with the number of updates."""

from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer

from optwrap.optim.schedule.curve import Curve
from optwrap.optim.wrapper import OptimWrapper


class Schedule:
    """The schedulers of one wrapper: call `step` after every micro-batch, it advances once an update.

    A skipped step does not advance it: where that is known only later, on CUDA, the schedule stands still then
    for as many updates as it is ahead. Each factory gets an optimizer that stands in for the wrapper's: its `lr`
    is the base value of the hyperparameter, to which the param groups keep their proportion (`Curve`). A schedule
    built after another on the same wrapper begins at the base values again.

    Args:
        optim_wrapper: whose hyperparameters move.
        factories: by hyperparameter, what makes its scheduler.
        metrics: by hyperparameter, the metric that its ReduceLROnPlateau follows; the only one where left out.
    """

    def __init__(
        self,
        optim_wrapper: OptimWrapper,
        factories: Mapping[str, Callable[[Optimizer], Any]],
        metrics: Mapping[str, str | None] | None = None,
    ) -> None:
        self._wrapper = optim_wrapper
        self._seen_updates = optim_wrapper.updates
        self._curves = {
            name: Curve(name, optim_wrapper.optimizer, factory, (metrics or {}).get(name))
            for name, factory in factories.items()
        }
        self._write()

    def step(self) -> None:
        """Advance by the updates made since the last call."""
        if self._seen_updates >= self._wrapper.updates_so_far:
            return
        while self._seen_updates < self._wrapper.updates_so_far:
            self._seen_updates += 1
            for curve in self._curves.values():
                curve.advance()
        self._write()

    def step_on_metric(self, value: float) -> None:
        """Show an evaluation's metric to all schedulers that wait for one (ReduceLROnPlateau)."""
        for curve in self._curves.values():
            curve.step_on_metric(value)
        self._write()

    def step_on_metrics(self, values: Mapping[str, float]) -> None:
        """Show each scheduler that waits for one its metric of an evaluation; one without a metric, the first."""
        for curve in self._curves.values():
            curve.step_on_metric(values[curve.metric or next(iter(values))])
        self._write()

    def state_dict(self) -> dict[str, Any]:
        """Return, by hyperparameter, the place on its curve, and by how many updates it is ahead."""
        ahead = self._seen_updates - self._wrapper.updates
        return {name: {"ahead": ahead, **curve.state_dict()} for name, curve in self._curves.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, into a wrapper that has its updates already.

        The place on the curve counts: values are those of this schedule and of this wrapper's base values at that
        place, to the bit those of the saved one where both are the same.

        Raises:
            KeyError: the hyperparameters are not those of this schedule.
        """
        if set(state_dict) != set(self._curves):
            raise KeyError(f"The state dict schedules {sorted(state_dict)}, this run {sorted(self._curves)}.")
        for name, curve in self._curves.items():
            curve.load_state_dict(state_dict[name])
        ahead = max((state["ahead"] for state in state_dict.values()), default=0)
        self._seen_updates = self._wrapper.updates + ahead
        self._write()

    def _write(self) -> None:
        for curve in self._curves.values():
            curve.write()


class ScheduleDict:
    """The schedules of the wrappers of an OptimWrapperDict, stepped and saved together."""

    def __init__(self, schedules: Mapping[str, Schedule]) -> None:
        self._schedules = dict(schedules)

    def step(self) -> None:
        """Advance each by the updates its wrapper made."""
        for schedule in self._schedules.values():
            schedule.step()

    def step_on_metric(self, value: float) -> None:
        """Show an evaluation's metric to each."""
        for schedule in self._schedules.values():
            schedule.step_on_metric(value)

    def step_on_metrics(self, values: Mapping[str, float]) -> None:
        """Show the metrics of an evaluation to each."""
        for schedule in self._schedules.values():
            schedule.step_on_metrics(values)

    def state_dict(self) -> dict[str, Any]:
        """Return the states by wrapper."""
        return {name: schedule.state_dict() for name, schedule in self._schedules.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        for name, schedule in self._schedules.items():
            schedule.load_state_dict(state_dict[name])
