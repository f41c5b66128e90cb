"""Evaluate a task on a data set."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from optwrap.errors import ConfigError, did_you_mean


def evaluate(task: Any, batches: Iterable[Any]) -> dict[str, float]:
    """Return the task's metrics over all batches, its model in evaluation mode meanwhile."""
    model: nn.Module = task.model
    was_training = model.training
    model.eval()
    task.metrics.reset()
    for batch in batches:
        task.eval_step(batch)
    model.train(was_training)
    return {name: value.item() for name, value in task.metrics.compute().items()}


def write_artifacts(task: Any, folder: Path, update: int) -> None:
    """Let a task that has `write_artifacts(folder, update)` leave files of its own, such as sample images."""
    write = getattr(task, "write_artifacts", None)
    if write is not None:
        write(folder, update)


@dataclass(frozen=True)
class Objective:
    """The metric that a run is judged by, `val/accuracy`, and which way is up."""

    name: str
    higher_is_better: bool


def find_objective(name: str, task: Any) -> Objective:
    """Return the objective, before the run, from the metric of the task that `name` means.

    Where a metric does not say which way is up, as the mean of a loss does not, lower is better.

    Raises:
        ConfigError: the run will have no such metric; the message names the nearest.
    """
    names = {f"{split}/{metric}": metric for split in ("val", "test") for metric in task.metrics}
    if name not in names:
        raise ConfigError(
            f"objective={name}: there is no such metric.{did_you_mean(name, list(names))} "
            f"Metrics: {', '.join(names)}."
        )
    return Objective(name, bool(task.metrics[names[name]].higher_is_better))
