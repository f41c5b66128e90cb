"""Training steps that a wrapper goes through more than once."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from optwrap.optim.perturbation.passes import Passes
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict, named_wrappers
from optwrap.plan.random_state import get_random_state, set_random_state

Stats = TypeVar("Stats")


def in_passes(
    model: nn.Module, optim_wrapper: OptimWrapper | OptimWrapperDict, step: Callable[[], Stats]
) -> Stats:
    """Call `step`, which ends in `update_params`, as often as its wrappers need: twice under SAM.

    Each time it draws the same random numbers; what it returns, and what it does to buffers of `model` such as
    running statistics, is of the first pass, at the model's own weights. Without SAM it is called once.
    """
    wrappers = list(named_wrappers(optim_wrapper).values())
    if all(wrapper.sam is None for wrapper in wrappers):
        return step()
    passes = Passes()
    device = wrappers[0].param_groups[0]["params"][0].device
    random, buffers = get_random_state(device), [buffer.detach().clone() for buffer in model.buffers()]
    try:
        for wrapper in wrappers:
            wrapper.passes = passes
        stats = step()
        while passes.climbed:
            first, after = stats, [buffer.detach().clone() for buffer in model.buffers()]
            set_random_state(random, device)
            _put(model, buffers)
            passes.begin()
            stats = step()
            if not passes.climbed:
                _put(model, after)
                return first
        return stats
    finally:
        for wrapper in wrappers:
            wrapper.passes = None
            if wrapper.sam is not None:
                wrapper.sam.go_back()  # an error has ended a pass


@torch.no_grad()
def _put(model: nn.Module, values: list[torch.Tensor]) -> None:
    for buffer, value in zip(model.buffers(), values, strict=True):
        buffer.copy_(value)
