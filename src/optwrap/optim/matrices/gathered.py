"""Stepping the matrices of sharded parameters (DTensors), one parameter at a time."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from optwrap.optim.assignment.hidden.cut import Cut
from optwrap.optim.matrices.states import join_states, split_state
from optwrap.optim.parallel.dtensors import is_dtensor
from optwrap.optim.parallel.sharded_state import placed_as
from optwrap.optim.parallel.sharding import shard_of
from optwrap.optim.step.gathered_step import aside


def step_gathered(inner: Optimizer, cuts: Mapping[Tensor, Cut], state: dict[Tensor, dict[str, Any]]) -> None:
    """Step the parameters in the param groups of `inner`, on matrices of the whole of each; `state` is theirs.

    Parameter, gradient and state are gathered, and every process works out the whole update.
    """
    before = inner.state
    try:
        with aside(inner.param_groups) as held:
            for group, params in held:
                for param in params:
                    if param.grad is not None:
                        _step_one(inner, group, param, cuts[param], state)
                group["params"] = []
    finally:
        inner.state = before


def _step_one(
    inner: Optimizer, group: dict[str, Any], param: Tensor, cut: Cut, state: dict[Tensor, dict[str, Any]]
) -> None:
    whole, grad = _whole(param.detach()), _whole(param.grad)
    matrices = [nn.Parameter(part) for part in cut(whole)]
    for matrix, part in zip(matrices, cut(grad), strict=True):
        matrix.grad = part
    own = {name: _whole(value) for name, value in state.get(param, {}).items()}
    states = split_state(own, cut, param.shape, len(matrices)) if own else []
    inner.state = type(inner.state)(dict, zip(matrices, states, strict=False))
    group["params"] = matrices
    inner.step()
    made = join_states([inner.state[matrix] for matrix in matrices], cut, param.shape)
    state[param] = {name: placed_as(param, value) for name, value in made.items()}
    shard_of(param.detach()).copy_(shard_of(placed_as(param, whole)))


def _whole(value: Any) -> Any:
    """Return a tensor whole and contiguous, so that its matrices are views."""
    if is_dtensor(value):
        value = value.full_tensor()
    return value.contiguous() if isinstance(value, Tensor) else value
