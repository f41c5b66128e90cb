"""The state of a parameter's matrices, as one state of the parameter: by its name a checkpoint keeps it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optwrap.optim.assignment.hidden.cut import Cut

_OF_ONE = re.compile(r"(.+)\.(\d+)")  # `step.3`: of the fourth matrix


def _numbered(name: Any, number: int) -> Any:
    return f"{name}.{number}" if isinstance(name, str) else (name, number)


def _of_one(name: Any, count: int) -> tuple[Any, int] | None:
    """Return what `_numbered` was given."""
    match = _OF_ONE.fullmatch(name) if isinstance(name, str) else None
    found = (match[1], int(match[2])) if match else name
    return found if isinstance(found, tuple) and found[1] < count else None


def split_state(own: Mapping[str, Any], cut: Cut, shape: torch.Size, count: int) -> list[dict[str, Any]]:
    """Return the state of each matrix of a parameter of that shape; what has the same shape is cut alike.

    What belongs to one of several matrices has its number behind the name; anything else goes to each of them.
    """
    states: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, value in own.items():
        if isinstance(value, Tensor) and value.shape == shape:
            values = cut(value)
        elif count > 1 and (numbered := _of_one(name, count)):
            states[numbered[1]][numbered[0]] = value
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
            whole |= {_numbered(name, i): state[name] for i, state in enumerate(states) if name in state}
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
