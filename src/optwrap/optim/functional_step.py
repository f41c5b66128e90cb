"""Steps by torch's functional optimizers, with lists that are gathered once.

`Optimizer.step` gathers parameters, gradients and state anew in every step, which takes most of the time that a
step of a small model takes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.autograd import profiler
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from optwrap.optim.sharded_step import has_hooks
from optwrap.optim.sharding import is_sharded

_State = Mapping[str, list[Any]]
_ZERO_GRAD = Optimizer.zero_grad


@dataclass(frozen=True)
class _Gathered:
    """A param group, its parameters that have a gradient, and their state: as dicts, and by name."""

    options: dict[str, Any]
    params: list[Tensor]
    dicts: list[dict[str, Any]]
    values: dict[str, list[Any]]

    def is_current(self) -> bool:
        """Whether the state that a step needs is made of the tensors that were gathered."""
        return _state_names(self.options) == tuple(self.values) and all(
            all(map(is_, map(itemgetter(name), self.dicts), values)) for name, values in self.values.items()
        )


class FunctionalStep:
    """The step of an SGD, Adam or AdamW whose every group is fused, as one call a param group.

    Whoever replaces the optimizer's own step, hooks into it or watches it gets it: `of` then returns None, or
    `is_current` is False, or `gives_way` True.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._step = _steps_of(optimizer)
        self._states = list(optimizer.state.values())
        self._groups = [_gather(optimizer, group) for group in optimizer.param_groups]
        self._on_cuda = any(param.is_cuda for group in self._groups for param in group.params)

    @classmethod
    def of(cls, optimizer: Optimizer) -> "FunctionalStep | None":
        """Gather what the optimizer's next steps need, once it has made one; None where its own step is needed."""
        groups = optimizer.param_groups
        suited = (
            type(optimizer) in _FUNCTIONAL
            and all(group["fused"] for group in groups)
            and not is_sharded([param for group in groups for param in group["params"]])
            and all(map(_is_of_torch, _steps_of(optimizer)))
            and not has_hooks(optimizer)
        )
        return cls(optimizer) if suited else None

    def is_current(self) -> bool:
        """Whether the optimizer's state and its step are those that it had, and no hook waits for the step."""
        optimizer = self._optimizer
        try:
            return (
                len(optimizer.state) == len(self._states)
                and all(map(is_, optimizer.state.values(), self._states))
                and all(group.is_current() for group in self._groups)
                and _steps_of(optimizer) == self._step
                and not has_hooks(optimizer)
            )
        except KeyError:  # a part of the state was taken away
            return False

    @property
    def gives_way(self) -> bool:
        """Whether this one step must be the optimizer's own.

        A profiler looks for it, CUDA records a graph, which it checks, or a GradScaler has told it of a scale.
        """
        return (
            _is_profiled()
            or "grad_scale" in vars(self._optimizer)
            or (self._on_cuda and torch.cuda.is_current_stream_capturing())
        )

    @torch.no_grad()
    def __call__(self, grads: Sequence[Tensor], grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
        """Step with the gradients of all groups, in order, as the optimizer would with these attributes."""
        call, start = _FUNCTIONAL[type(self._optimizer)], 0
        for group in self._groups:
            end = start + len(group.params)
            call(group.options, group.params, grads[start:end], group.values, grad_scale, found_inf)
            start = end


def zero_grad(optimizer: Optimizer, set_to_none: bool = True) -> None:
    """Do what `optimizer.zero_grad` does, and no more where it would only set every gradient to None.

    What that adds is a record for profilers, which takes longer than the rest.
    """
    replaced = type(optimizer).zero_grad is not _ZERO_GRAD or "zero_grad" in vars(optimizer)
    if replaced or not set_to_none or _is_profiled():
        optimizer.zero_grad(set_to_none)
        return
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = None


def _is_profiled() -> bool:
    return profiler._is_profiler_enabled


def _gather(optimizer: Optimizer, group: dict[str, Any]) -> _Gathered:
    params = [param for param in group["params"] if param.grad is not None]
    names = _state_names(group)
    dicts = [optimizer.state[param] for param in params] if names else []
    return _Gathered(group, params, dicts, {name: [state[name] for state in dicts] for name in names})


def _state_names(group: Mapping[str, Any]) -> tuple[str, ...]:
    if "betas" not in group:
        return ("momentum_buffer",) if group["momentum"] else ()
    return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()), "step")


def _sgd(
    options: Mapping[str, Any],
    params: list[Tensor],
    grads: Sequence[Tensor],
    state: _State,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    sgd(
        params,
        grads,  # type: ignore[arg-type]
        state.get("momentum_buffer", []),
        fused=True,
        grad_scale=grad_scale,
        found_inf=found_inf,
        weight_decay=options["weight_decay"],
        momentum=options["momentum"],
        lr=options["lr"],
        dampening=options["dampening"],
        nesterov=options["nesterov"],
        maximize=options["maximize"],
    )


def _adam(
    options: Mapping[str, Any],
    params: list[Tensor],
    grads: Sequence[Tensor],
    state: _State,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    beta1, beta2 = options["betas"]
    adam(
        params,
        grads,  # type: ignore[arg-type]
        state["exp_avg"],
        state["exp_avg_sq"],
        state.get("max_exp_avg_sq", []),
        state["step"],
        fused=True,
        capturable=options["capturable"],
        grad_scale=grad_scale,
        found_inf=found_inf,
        decoupled_weight_decay=options["decoupled_weight_decay"],
        amsgrad=options["amsgrad"],
        beta1=beta1,
        beta2=beta2,
        lr=options["lr"],
        weight_decay=options["weight_decay"],
        eps=options["eps"],
        maximize=options["maximize"],
    )


_FUNCTIONAL = {SGD: _sgd, Adam: _adam, AdamW: _adam}


def _steps_of(optimizer: Optimizer) -> tuple[Any, ...]:
    """Return the step of the optimizer's class, and what stands before it on this one, such as a scheduler's."""
    own = vars(optimizer).get("step")
    return (type(optimizer).step,) if own is None else (type(optimizer).step, own)


def _is_of_torch(step: Callable[..., Any] | None) -> bool:
    """Whether torch alone has wrapped a step: its profiler and its schedulers do."""
    while step is not None:
        # Unlike the name and the module, a wrapper does not copy the globals of what it wraps.
        if not getattr(step, "__globals__", {}).get("__name__", "").startswith("torch."):
            return False
        step = getattr(step, "__wrapped__", None)
    return True
