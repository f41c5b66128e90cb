"""A step of training on a batch, and an evaluation on a data set, of a task."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from optwrap.optim import OptimWrapper, OptimWrapperDict, in_passes
from optwrap.optim.averaging.switched import recomputes_batch_norm
from optwrap.optim.wrapper_dict import named_wrappers
from optwrap.plan.ranks import Ranks
from optwrap.run.loaders import Loaders

BATCHES = 50
"""Batches of training data, at most, that running statistics are recomputed on: as many as the authors of
schedule-free optimizers advise."""


def train_step(
    task: Any, batch: Any, optim_wrapper: OptimWrapper | OptimWrapperDict
) -> Mapping[str, torch.Tensor]:
    """Let the task train on a batch, as often as its wrappers need; return its numbers, on their device."""
    return in_passes(task.model, optim_wrapper, partial(task.train_step, batch, optim_wrapper))


def evaluate(task: Any, batches: Iterable[Any]) -> dict[str, float]:
    """Return the task's metrics over all batches, its model in evaluation mode meanwhile.

    Of several ranks each gives its batches, and gets the metrics over those of all.
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


@contextmanager
def evaluation_weights(task: Any, optim_wrapper: OptimWrapper | OptimWrapperDict, data: Loaders) -> Iterator[None]:
    """Evaluate inside: the model has the weights to evaluate, averages for example, and statistics to match.

    Afterwards both are what they were.
    """
    wrappers = named_wrappers(optim_wrapper).values()
    with ExitStack() as stack:
        stack.enter_context(optim_wrapper.evaluation_weights())
        if any(recomputes_batch_norm(each.averaging, each.optimizer) for each in wrappers):
            stack.enter_context(recomputed_batch_norm(task, data))
        yield


@contextmanager
def recomputed_batch_norm(task: Any, data: Loaders) -> Iterator[None]:
    """Let the statistics of batch norms be those of the first training batches, under the weights of now."""
    norms = [each for each in task.model.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]
    before = [({name: each.clone() for name, each in norm.named_buffers()}, norm.momentum) for norm in norms]
    try:
        if norms:
            _recompute(task, norms, data.training(0, min(BATCHES, data.order.per_epoch)))
            for norm, (buffers, _) in zip(norms, before, strict=True):
                if not norm.num_batches_tracked:  # an evaluation does not come through it
                    _restore(norm, buffers)
        yield
    finally:
        for norm, (buffers, momentum) in zip(norms, before, strict=True):
            norm.momentum = momentum
            _restore(norm, buffers)


@torch.no_grad()
def _recompute(task: Any, norms: list[Any], batches: Iterable[Any]) -> None:
    was_training = task.model.training
    task.model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    for batch in batches:
        task.eval_step(batch)
    task.metrics.reset()
    task.model.train(was_training)


def _restore(norm: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    for name, buffer in norm.named_buffers():
        buffer.copy_(buffers[name])


def write_artifacts(task: Any, folder: Path, update: int) -> list[Path]:
    """Let a task that has `write_artifacts(folder, update)` leave files of its own, such as pictures.

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
