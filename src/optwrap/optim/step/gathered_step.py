"""Stepping sharded matrices (DTensors) whole, one at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from optwrap.optim.parallel.dtensors import is_dtensor


@contextmanager
def aside(groups: Sequence[dict[str, Any]]) -> Iterator[list[tuple[dict[str, Any], list[Tensor]]]]:
    """Let param groups have no parameters inside, or those that are put in; yield each with its own."""
    held = [(group, group["params"]) for group in groups]
    try:
        for group, _ in held:
            group["params"] = []
        yield held
    finally:
        for group, params in held:
            group["params"] = params


class GatheredStep:
    """Lets an optimizer that looks at whole matrices (Muon) step sharded ones.

    Gradient and state are gathered one parameter at a time, and every process works out the whole update. By the
    operators of DTensors that took 11 to 16 reductions a matrix, and sums of bfloat16 shards lose digits.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Step every parameter that has a gradient."""
        if closure is not None:
            with torch.enable_grad():
                closure()
        with aside(self._optimizer.param_groups) as held:
            for group, params in held:
                for param in params:
                    group["params"] = [param]
                    if param.grad is not None:
                        self._step_one(param)
                group["params"] = []

    @torch.no_grad()
    def _step_one(self, param: Tensor) -> None:
        shard, state = param.grad, self._optimizer.state[param]
        param.grad = _whole(shard)
        state.update({name: _whole(value) for name, value in state.items()})
        try:
            self._optimizer.step()
        finally:
            param.grad = shard
            state.update({name: _sharded_as(param, value) for name, value in state.items()})


def _whole(tensor: Any) -> Any:
    if not is_dtensor(tensor):
        return tensor
    from torch.distributed.tensor import Replicate  # loaded by now, since the tensor is one of its

    return tensor.redistribute(placements=[Replicate()] * tensor.device_mesh.ndim)


def _sharded_as(param: Tensor, value: Any) -> Any:
    if not is_dtensor(value) or not is_dtensor(param) or value.shape != param.shape:
        return value
    return value.redistribute(placements=param.placements)
