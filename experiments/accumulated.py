"""The gradient of an update that is accumulated over micro-batches, and how far it is from another."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from optwrap.optim import OptimWrapper


def gradient(task: Any, micro_batches: Sequence[Any]) -> Tensor:
    """Return the gradient that an update over micro-batches steps by, as one vector."""
    wrapper = OptimWrapper(
        torch.optim.SGD(task.model.parameters(), lr=0.0), accumulative_counts=len(micro_batches)
    )
    taken: list[Tensor] = []
    wrapper.after_step.append(lambda: taken.append(flat(param.grad for param in task.model.parameters())))
    for batch in micro_batches:
        task.train_step(batch, wrapper)
    return taken[0]


def flat(tensors: Iterable[Tensor | None]) -> Tensor:
    """Return all numbers of some tensors, in float64."""
    return torch.cat([each.detach().double().flatten() for each in tensors if each is not None])


def distance(found: Tensor, whole: Tensor) -> float:
    """Return how far a gradient is from that of the whole batch, by the latter's length."""
    return float((found - whole).norm() / whole.norm())
