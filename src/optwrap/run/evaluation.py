"""Evaluate a task on a data set."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from optwrap.plan.ranks import Ranks


def evaluate(task: Any, batches: Iterable[Any]) -> dict[str, float]:
    """Return the task's metrics over all batches, its model in evaluation mode meanwhile.

    Of several ranks each gives its batches, and gets the metrics over those of all: torchmetrics joins them.
    """
    model: nn.Module = task.model
    Ranks.current().share_buffers(model)
    was_training = model.training
    model.eval()
    task.metrics.reset()
    for batch in batches:
        task.eval_step(batch)
    model.train(was_training)
    return {name: value.item() for name, value in task.metrics.compute().items()}


def write_artifacts(task: Any, folder: Path, update: int) -> list[Path]:
    """Let a task that has `write_artifacts(folder, update)` leave files of its own, such as sample images.

    Return the files that it returns, for `Recorder.artifacts`; none where it returns nothing.

    Every rank calls it, since a sharded model needs them all; what ranks above 0 write is thrown away.
    """
    write = getattr(task, "write_artifacts", None)
    if write is None:
        return []
    if Ranks.current().is_first:
        return list(write(folder, update) or ())
    with TemporaryDirectory() as thrown_away:
        write(Path(thrown_away), update)
    return []
