"""Calls torch's fused kernels, and zeroes gradients, without what `Optimizer` does around them.

`Optimizer.step` gathers parameters and state anew in every step, and opens a profiler's record, as `zero_grad`
does. For a small model that is most of the time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from optwrap.optim.parallel.sharding import is_sharded
from optwrap.optim.step.layout import KnownState, params_of
from optwrap.optim.step.own_step import is_intercepted, is_profiled, is_replaced, is_scaled, note_step

_Places = dict[str, list[int]]


class DirectStep:
    """The step of a fused SGD, Adam or AdamW that has stepped before, as one call of the kernel a param group.

    It keeps the position of each parameter's state in `state.tensors()`; valid while those, the param groups and
    which parameters have a gradient (`present`) stay the same.

    Raises:
        KeyError: the step of the optimizer has left no state, since a hook took it away.
    """

    def __init__(self, optimizer: Optimizer, state: KnownState, present: Sequence[Tensor]) -> None:
        self._optimizer = optimizer
        self._call = _sgd if type(optimizer) is SGD else _adam
        self._type = type(optimizer)
        self._state = state
        self._groups: list[tuple[dict[str, Any], list[Tensor], _Places]] = []
        numbers, with_gradient = state.numbers(), set(map(id, present))
        for group in optimizer.param_groups:
            params = [param for param in group["params"] if id(param) in with_gradient]
            if not params:  # a kernel takes no empty lists
                continue
            names = _state_names(optimizer, group)
            places = {name: [numbers[param, name] for param in params] for name in names}
            self._groups.append((group, params, places))
        self._on_cuda = any(param.is_cuda for _, params, _ in self._groups for param in params)

    @classmethod
    def of(cls, optimizer: Optimizer, state: KnownState, present: Sequence[Tensor]) -> "DirectStep | None":
        """Make the step of an optimizer that has stepped; None where its own is needed."""
        groups = optimizer.param_groups
        suited = (
            type(optimizer) in (SGD, Adam, AdamW)
            and not is_intercepted(optimizer)
            and all(group["fused"] and not group["foreach"] and not group["differentiable"] for group in groups)
            and all(len({(param.device, param.dtype) for param in group["params"]}) <= 1 for group in groups)
            and not is_sharded(params_of(optimizer))
        )
        try:
            return cls(optimizer, state, present) if suited else None
        except KeyError:
            return None

    @property
    def gives_way(self) -> bool:
        """Whether this one step must be the optimizer's own.

        The optimizer has become another class, its step is hooked or replaced, a profiler is on, a GradScaler has
        set a scale or an overflow, a hyperparameter is a tensor, or CUDA is capturing a graph (which that step
        checks).
        """
        optimizer = self._optimizer
        return (
            type(optimizer) is not self._type
            or is_intercepted(optimizer)
            or is_profiled()
            or is_scaled(optimizer)
            or any(_has_tensors(group) for group, _, _ in self._groups)
            or (self._on_cuda and torch.cuda.is_current_stream_capturing())
        )

    @torch.no_grad()
    def __call__(self, grads: Sequence[Tensor], grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
        """Step with the gradients of all groups, in order, divided by `grad_scale`, unless `found_inf` is 1.

        Both are on the gradients' device, `grad_scale` float32.
        """
        tensors = self._state.tensors()
        scaling = {"grad_scale": grad_scale, "found_inf": found_inf}
        start = 0
        for group, params, places in self._groups:
            end = start + len(params)
            state = {name: [tensors[number] for number in numbers] for name, numbers in places.items()}
            self._call(group, params, grads[start:end], state, scaling)
            start = end
        note_step(self._optimizer)


def zero_grad(optimizer: Optimizer, /, **kwargs: Any) -> None:
    """Do what `optimizer.zero_grad(**kwargs)` does, without a profiler's record where it only drops gradients."""
    if kwargs or is_replaced(optimizer, "zero_grad") or is_profiled():
        optimizer.zero_grad(**kwargs)
        return
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = None


def _state_names(optimizer: Optimizer, group: dict[str, Any]) -> tuple[str, ...]:
    if type(optimizer) is SGD:
        return ("momentum_buffer",) if group["momentum"] else ()
    return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()), "step")


def _has_tensors(group: dict[str, Any]) -> bool:
    return any(
        isinstance(value, Tensor) for value in (group["lr"], group["weight_decay"], *group.get("betas", ()))
    )


def _sgd(
    group: dict[str, Any], params: list[Tensor], grads: Any, state: dict[str, list[Any]], scaling: dict[str, Any]
) -> None:
    torch._fused_sgd_(
        params,
        grads,
        state.get("momentum_buffer", []),
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=group["maximize"],
        is_first_step=False,
        **scaling,
    )


def _adam(
    group: dict[str, Any], params: list[Tensor], grads: Any, state: dict[str, list[Any]], scaling: dict[str, Any]
) -> None:
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    steps = state["step"]
    beta1, beta2 = group["betas"]
    torch._foreach_add_(steps, 1)
    kernel(
        params,
        grads,
        state["exp_avg"],
        state["exp_avg_sq"],
        state.get("max_exp_avg_sq", []),
        steps,
        amsgrad=group["amsgrad"],
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=group["maximize"],
        **scaling,
    )
    if scaling["found_inf"] is not None:
        torch._foreach_sub_(steps, [scaling["found_inf"]] * len(steps))
