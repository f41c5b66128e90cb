"""Evaluate a task on a data set."""

from collections.abc import Iterable
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


def check_objective(objective: str, task: Any) -> None:
    """Check, before the run, that it will have the metric that `objective` names.

    Raises:
        ConfigError: it will not; the message names the nearest.
    """
    names = [f"{split}/{name}" for split in ("val", "test") for name in task.metrics]
    if objective not in names:
        raise ConfigError(
            f"objective={objective}: there is no such metric.{did_you_mean(objective, names)} "
            f"Metrics: {', '.join(names)}."
        )
