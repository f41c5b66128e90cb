"""The state of a parameter's matrices, as one state of the parameter: by its name a checkpoint keeps it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optwrap.optim.assignment.hidden.cut import Cut

_OF_ONE = re.compile(r"(.+)\.(\d+)")  # `step.3`: of the fourth matrix


def split_state(own: Mapping[str, Any], cut: Cut, shape: torch.Size, count: int) -> list[dict[str, Any]]:
    """Return the state of each matrix of a parameter of that shape; what has the same shape is cut alike.

    What belongs to one of several matrices has its number behind the name; anything else goes to each of them.
    """
    states: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, value in own.items():
        numbered = _OF_ONE.fullmatch(name)
        if isinstance(value, Tensor) and value.shape == shape:
            values = cut(value)
        elif numbered and int(numbered[2]) < count:
            states[int(numbered[2])][numbered[1]] = value
            continue
        else:
            shared = count > 1 and isinstance(value, Tensor)
            values = [value.clone() if shared else value for _ in range(count)]
        for state, each in zip(states, values, strict=True):
            state[name] = each
    return states


def join_states(states: Sequence[dict[str, Any]], cut: Cut, shape: torch.Size) -> dict[str, Any]:
    """Return one state of a parameter of a shape; what has the shapes of its matrices is then views of it."""
    whole: dict[str, Any] = {}
    for name in dict.fromkeys(name for state in states for name in state):
        values = [state.get(name) for state in states]
        if (joined := _joined(values, cut, shape)) is not None:
            whole[name] = joined
            for state, part in zip(states, cut(joined), strict=True):
                state[name] = part
        elif len(states) == 1:
            whole[name] = values[0]
        else:
            whole |= {f"{name}.{i}": state[name] for i, state in enumerate(states) if name in state}
    return whole


def _joined(values: Sequence[Any], cut: Cut, shape: torch.Size) -> Tensor | None:
    tensors = [value for value in values if isinstance(value, Tensor)]
    if len(tensors) < len(values) or len({value.dtype for value in tensors}) > 1:
        return None
    whole = torch.empty(shape, dtype=tensors[0].dtype, device=tensors[0].device)
    parts = cut(whole)
    if [part.shape for part in parts] != [value.shape for value in tensors]:
        return None
    for part, value in zip(parts, tensors, strict=True):
        part.copy_(value)
    return whole
