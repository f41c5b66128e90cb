"""Micro-batches without items, whose loss may be 0/0 or infinite: they add zero to every gradient.

That the loss is multiplied by zero is not enough: what it divides by makes NaN of it on the way back.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

from optwrap.optim.parallel.sharding import shard_of


def without_items(loss: Tensor, weighed: Tensor, weight: float | Tensor) -> list[RemovableHandle]:
    """Let the backward pass of `weighed`, made of `loss`, leave zeros where `weight` is 0; return what undoes it.

    A weight on a device is not read: every gradient then goes through a choice made there.
    """
    on_device = isinstance(weight, Tensor) and weight.device.type != "cpu"
    if weighed.grad_fn is None or (not on_device and weight != 0):
        return []
    return masked(loss, weighed, weight == 0 if isinstance(weight, Tensor) else torch.tensor(True))


def masked(loss: Tensor, weighed: Tensor, empty: Tensor) -> list[RemovableHandle]:
    """Let the backward pass of `weighed`, made of `loss`, leave zeros if `empty` is; return what undoes it."""
    begun = [False]  # data-parallel modules keep the nodes: another loss's backward pass goes through them too

    def begin(grads: tuple[Tensor, ...]) -> None:
        begun[0] = True

    def mask(grads: tuple[Tensor, ...]) -> tuple[Tensor | None, ...] | None:
        return tuple(None if grad is None else _masked(grad, empty) for grad in grads) if begun[0] else None

    assert weighed.grad_fn is not None
    handles = [weighed.grad_fn.register_prehook(begin)]
    # Before data-parallel modules average them.
    return handles + [leaf.register_prehook(mask) for leaf in _leaves(loss.grad_fn)]


def _masked(grad: Tensor, empty: Tensor) -> Tensor:
    grad = grad.clone()
    values = grad._values() if grad.layout == torch.sparse_coo else shard_of(grad)
    values.masked_fill_(empty.reshape(()).to(values.device, non_blocking=True), 0)
    return grad


def _leaves(root: Node | None) -> Iterator[Node]:
    """Yield the nodes of a graph that add to the gradients of its leaves."""
    seen = {root}
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        if node.name().endswith("AccumulateGrad"):
            yield node
        for following, _ in node.next_functions:
            if following not in seen:
                seen.add(following)
                nodes.append(following)
