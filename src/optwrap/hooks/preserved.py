"""Training that is undone: what it changes is put back, to the bit."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from optwrap.hooks.given import Run
from optwrap.optim.wrapper_dict import named_wrappers
from optwrap.plan.calls import begin
from optwrap.plan.random_state import get_random_state, set_random_state


@contextmanager
def preserved(run: Run, micro_batches: int) -> Iterator[None]:
    """Let the wrappers begin `micro_batches` inside; put back model, wrappers, task and random numbers after it.

    The task's own state is put back where it has `state_dict` and `load_state_dict`.
    """
    wrappers = named_wrappers(run.optim_wrapper)
    tensors = [*run.model.parameters(), *run.model.buffers()]
    values = [tensor.detach().clone() for tensor in tensors]
    states = {name: copy.deepcopy(wrapper.state_dict()) for name, wrapper in wrappers.items()}
    counters = {name: (each.inner_count, each.updates, each.skipped_steps) for name, each in wrappers.items()}
    norms = {name: wrapper.last_grad_norm for name, wrapper in wrappers.items()}
    task = copy.deepcopy(run.task.state_dict()) if hasattr(run.task, "load_state_dict") else None
    random = get_random_state(run.device)
    begin(run.optim_wrapper, run.model, micro_batches, counted=dict.fromkeys(wrappers, 0))
    try:
        yield
    finally:
        _put_back(tensors, values)
        for name, wrapper in wrappers.items():
            wrapper.zero_grad()
            wrapper.load_state_dict(states[name])
        for name, wrapper in wrappers.items():
            _ = wrapper.updates  # steps whose outcome the device has not told yet are no steps of the run
            _, wrapper.updates, wrapper.skipped_steps = counters[name]
            wrapper.last_grad_norm = norms[name]
        counted = {name: count for name, (count, _, _) in counters.items()}
        begin(run.optim_wrapper, run.model, run.plan.micro_batches, run.count, counted)
        if task is not None:
            run.task.load_state_dict(task)
        set_random_state(random, run.device)


@torch.no_grad()
def _put_back(tensors: list[Any], values: list[torch.Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
