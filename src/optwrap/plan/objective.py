"""The metric by which runs are compared, and in a run its checkpoints."""

import math
from typing import Any

from optwrap.errors import ConfigError, did_you_mean

DIRECTIONS = ("min", "max")


def objective_of(task: Any) -> str:
    """Return what a task is judged by where the config does not say: its attribute `objective`, else val/loss.

    Raises:
        ConfigError: it says no metric of its own, or says nothing and has no loss.
    """
    said, names = getattr(task, "objective", None), _names(task)
    if said is None and "val/loss" in names:
        return "val/loss"
    if said in names:
        return str(said)
    what = "has no objective and no metric loss" if said is None else f"has objective={said}, which is no metric"
    raise ConfigError(
        f"objective=null: the task ({type(task).__name__}) {what}.{did_you_mean(str(said), names)} "
        f"Give objective=..., one of its metrics: {', '.join(names)}."
    )


class Objective:
    """The metric that `objective` names, which way it is better, and the best value of it so far.

    `better` is min, max or None: then what the metric itself says (torchmetrics' `higher_is_better`), and lower
    for a loss. Where nobody says, no value is best. `directions` has the same for all metrics of the task.

    Raises:
        ConfigError: the task has no such metric; the message names the nearest.
    """

    def __init__(self, name: str, task: Any, better: str | None = None) -> None:
        names = _names(task)
        if name not in names:
            raise ConfigError(
                f"objective={name}: there is no such metric.{did_you_mean(name, names)} "
                f"Metrics: {', '.join(names)}."
            )
        if better not in (None, *DIRECTIONS):
            raise ConfigError(f"checkpoint.best={better}: it is min or max; null: what the metric says.")
        self.name = name
        self.metric = name.partition("/")[2]
        self.directions = {each: _higher_is_better(metric, each, None) for each, metric in task.metrics.items()}
        self.higher_is_better = _higher_is_better(task.metrics[self.metric], self.metric, better)
        self.directions[self.metric] = self.higher_is_better
        self.best: float | None = None

    def improves(self, value: float) -> bool:
        """Whether `value` is the best so far, which it then is."""
        if self.higher_is_better is None or math.isnan(value):
            return False
        sign = 1 if self.higher_is_better else -1
        better = self.best is None or sign * value > sign * self.best
        if better:
            self.best = value
        return better


def _names(task: Any) -> list[str]:
    return [f"{split}/{metric}" for split in ("val", "test") for metric in task.metrics]


def _higher_is_better(metric: Any, name: str, better: str | None) -> bool | None:
    told = {"max": True, "min": False}.get(better or "", getattr(metric, "higher_is_better", None))
    return False if told is None and "loss" in name else told
