"""Fused kernels: switched on where they are right, and checked before every step.

A fused CPU kernel walks parameter, gradient and state as flat memory, whatever their strides, and creates
SGD's momentum buffers without content. Where that would be wrong, or where the kernel would raise an error, a
step is made by the plain loop.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from optwrap.optim.layout import align_strides, is_dense, lie_alike

logger = logging.getLogger(__name__)

_DEVICES = {SGD: ("cpu", "cuda"), Adam: ("cpu", "cuda"), AdamW: ("cpu", "cuda"), Adagrad: ("cpu",)}
_PLAIN_TENSORS = (Tensor, nn.Parameter)  # not DTensor, nor what FSDP1 flattens
_dtype = attrgetter("dtype")


def choose_fused(optimizer: Optimizer) -> None:
    """Switch the fused kernel on where there is one, unless the user chose how the optimizer steps.

    A choice is `fused` or `foreach` (True or False), `capturable=True` or `differentiable=True`.
    """
    devices = _DEVICES.get(type(optimizer), ())  # a subclass may rely on the plain loop
    params = [param for group in optimizer.param_groups for param in group["params"]]
    suited = all(
        type(param) in _PLAIN_TENSORS and param.device.type in devices and param.is_floating_point()
        for param in params
    )
    if suited and all(_is_open(group) for group in optimizer.param_groups):
        for options in (optimizer.defaults, *optimizer.param_groups):
            options["fused"] = True


def _is_open(group: Mapping[str, Any]) -> bool:
    chosen = group.get("capturable") or group.get("differentiable")
    return not chosen and group["fused"] is None and group["foreach"] is None


class FusedKernel:
    """Steps `optimizer`, by its fused kernel in every step where that gives what the plain loop gives.

    Why a step is not fused is logged, once a reason.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        choose_fused(optimizer)
        self.optimizer = optimizer
        self._known = isinstance(optimizer, tuple(_DEVICES))
        self._layout: _Layout | None = None
        self._said: set[str] = set()

    @property
    def folds(self) -> bool:
        """Whether the kernel of every parameter takes `grad_scale` and `found_inf`."""
        return type(self.optimizer) in _DEVICES and all(group["fused"] for group in self.optimizer.param_groups)

    @property
    def params(self) -> list[Tensor]:
        """Every parameter of the optimizer."""
        return [param for group in self.optimizer.param_groups for param in group["params"]]

    @property
    def devices(self) -> frozenset[torch.device]:
        """Devices of the parameters that `grads` last found to have a gradient."""
        return self._layout.devices if self._layout is not None else frozenset()

    @property
    def dtypes(self) -> frozenset[torch.dtype]:
        """Their dtypes."""
        return frozenset(self._layout.dtypes) if self._layout is not None else frozenset()

    def grads(self) -> list[Tensor] | None:
        """Return the gradients if the fused kernel may make this step, else None."""
        layout = self._layout
        if layout is not None and layout.is_of(self.optimizer):
            grads = layout.grads()
            if grads is not None:
                return grads
        return self._look()

    def step(self, **kwargs: Any) -> None:
        """Step, with the plain loop where the fused kernel would be wrong."""
        if not self._known or not any(group["fused"] for group in self.optimizer.param_groups):
            self.optimizer.step(**kwargs)
        elif kwargs:
            self._say("a closure computes the gradients inside the step")
            self._step_unfused(**kwargs)
        elif self.grads() is None:
            self._step_unfused()
        else:
            self.optimizer.step()

    def scaled_step(self, grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
        """Step after `grads`: divide the gradients by `grad_scale` (float32), do nothing if `found_inf` is 1."""
        optimizer: Any = self.optimizer
        optimizer.grad_scale, optimizer.found_inf = grad_scale, found_inf
        try:
            optimizer.step()
        finally:
            del optimizer.grad_scale, optimizer.found_inf

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the optimizer's state, laid out as its parameters are; how it steps stays this run's choice."""
        chosen: list[dict[str, Any]] = [
            {name: group[name] for name in ("fused", "foreach") if name in group}
            for group in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(state_dict)
        for group, choice in zip(self.optimizer.param_groups, chosen, strict=True):
            group.update(choice)
        align_strides(self.optimizer)

    def _look(self) -> list[Tensor] | None:
        """Look at every parameter, make its state ready, and remember what was found."""
        self._layout = None
        groups = [group for group in self.optimizer.param_groups if group["fused"]]
        params = [param for group in groups for param in group["params"]]
        reason = _unfit(params)
        if reason is None:
            align_strides(self.optimizer)
            reason = next(filter(None, (_prepare(self.optimizer, group) for group in groups)), None)
        if reason is not None:
            self._say(reason)
            return None
        self._layout = _Layout.of(self.optimizer, params)
        return self._layout.grads()

    @contextlib.contextmanager
    def _unfused(self) -> Iterator[None]:
        groups = [group for group in self.optimizer.param_groups if group["fused"]]
        for group in groups:
            group["fused"] = False
        try:
            yield
        finally:
            for group in groups:
                group["fused"] = True

    def _step_unfused(self, **kwargs: Any) -> None:
        self._layout = None  # the plain loop may create state
        with self._unfused():
            self.optimizer.step(**kwargs)

    def _say(self, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            logger.info("%s steps without its fused kernel where %s.", type(self.optimizer).__name__, reason)


@dataclass(frozen=True)
class _Layout:
    """Where parameters lay when everything was looked at; only what may change since is compared in a step."""

    groups: list[tuple[dict[str, Any], int, bool, bool]]
    state: object
    params: list[Tensor]
    absent: list[Tensor]  # parameters that had no gradient
    addresses: list[int]
    strides: list[tuple[int, ...]]  # of the gradients
    dtypes: list[torch.dtype]
    devices: frozenset[torch.device]

    @classmethod
    def of(cls, optimizer: Optimizer, params: Sequence[Tensor]) -> "_Layout":
        present = [param for param in params if param.grad is not None]
        return cls(
            groups=[(group, *_traits(group)) for group in optimizer.param_groups],
            state=optimizer.state,
            params=present,
            absent=[param for param in params if param.grad is None],
            addresses=[param.data_ptr() for param in present],
            strides=[param.grad.stride() for param in present if param.grad is not None],
            dtypes=[param.dtype for param in present],
            devices=frozenset(param.device for param in present),
        )

    def is_of(self, optimizer: Optimizer) -> bool:
        groups = optimizer.param_groups
        return (
            self.state is optimizer.state
            and len(groups) == len(self.groups)
            and all(
                group is known and _traits(group) == tuple(traits)
                for group, (known, *traits) in zip(groups, self.groups, strict=True)
            )
        )

    def grads(self) -> list[Tensor] | None:
        """Return the gradients if everything lies as it did. Plain maps: this runs in every step."""
        grads: list[Any] = [param.grad for param in self.params]
        try:
            same = (
                list(map(Tensor.stride, grads)) == self.strides
                and list(map(_dtype, grads)) == self.dtypes
                and list(map(Tensor.data_ptr, self.params)) == self.addresses
            )
        except (TypeError, RuntimeError):  # a gradient is None now, or sparse
            return None
        return grads if same and all(param.grad is None for param in self.absent) else None


def _traits(group: Mapping[str, Any]) -> tuple[int, bool, bool]:
    return len(group["params"]), bool(group["fused"]), bool(group.get("momentum"))


def _unfit(params: Sequence[Tensor]) -> str | None:
    """Return why a fused kernel may not touch the parameters and gradients as they lie, or None."""
    for param in params:
        grad = param.grad
        if grad is None:
            continue
        if type(param) not in _PLAIN_TENSORS or not is_dense(param):
            return "a parameter is no dense tensor"
        if grad.layout != torch.strided:
            return "a gradient is sparse"
        if grad.dtype != param.dtype or grad.device != param.device:
            return "a gradient has another dtype or device than its parameter"
        if not lie_alike(grad, param):
            return "a gradient and its parameter lie differently in memory"
    return None


def _prepare(optimizer: Optimizer, group: Mapping[str, Any]) -> str | None:
    """Make the state of a group ready for the fused kernel; return why it cannot be, or None."""
    for param in group["params"]:
        if param.grad is None:
            continue
        state = optimizer.state[param] if group.get("momentum") or param in optimizer.state else {}
        if group.get("momentum") and state.get("momentum_buffer") is None:
            if group["dampening"]:  # the first gradient enters the buffer undamped
                return "a parameter with dampened momentum has its first gradient"
            # As the kernel makes it, a skipped first step would leave it without content.
            state["momentum_buffer"] = torch.zeros_like(param)
        for name, value in state.items():
            if name == "step" and isinstance(value, Tensor):
                state[name] = value.to(param.device, torch.float32)
            elif isinstance(value, Tensor) and (value.dtype != param.dtype or value.device != param.device):
                return "optimizer state has another dtype or device than its parameter"
    return None
