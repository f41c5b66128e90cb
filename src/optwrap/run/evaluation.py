"""Evaluate a task on a data set."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn


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
