"""Fused kernels: switched on where they are right, and checked before every step.

A fused CPU kernel walks parameter, gradient and state as flat memory, whatever their strides, and creates
SGD's momentum buffers without content. Where that would be wrong, or where the kernel would raise an error, a
step is made by the plain loop.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from optwrap.optim.parallel.sharding import shard_of
from optwrap.optim.step.direct import DirectStep
from optwrap.optim.step.gathered_step import GatheredStep
from optwrap.optim.step.layout import PLAIN_TENSORS, KnownState, Layout, align_strides, params_of, prepare, unfit
from optwrap.optim.step.loading import load
from optwrap.optim.step.norm import norm_of, norm_of_shards
from optwrap.optim.step.own_step import is_replaced, step_bare
from optwrap.optim.step.sharded_step import stepper, unfused

logger = logging.getLogger(__name__)

_DEVICES = {SGD: ("cpu", "cuda"), Adam: ("cpu", "cuda"), AdamW: ("cpu", "cuda"), Adagrad: ("cpu",)}


def choose_fused(optimizer: Optimizer) -> None:
    """Switch the fused kernel on where there is one, unless the user chose how the optimizer steps.

    A choice is `fused` or `foreach` (True or False), `capturable=True` or `differentiable=True`.
    """
    devices = _DEVICES.get(type(optimizer), ())  # a subclass may rely on the plain loop
    suited = all(
        type(shard_of(param)) in PLAIN_TENSORS and param.device.type in devices and param.is_floating_point()
        for param in params_of(optimizer)
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
        self._stepper = stepper(optimizer)
        self._known = isinstance(optimizer, tuple(_DEVICES))
        self._layout: Layout | None = None
        self._state: KnownState | None = None
        self._direct: DirectStep | None = None
        self._compiled: Callable[[], Any] | None = None
        self._has_stepped = False
        self._said: set[str] = set()

    @property
    def folds(self) -> bool:
        """Whether the kernel of every parameter takes `grad_scale` and `found_inf`."""
        return type(self.optimizer) in _DEVICES and all(group["fused"] for group in self.optimizer.param_groups)

    @property
    def params(self) -> list[Tensor]:
        """Every parameter of the optimizer."""
        return params_of(self.optimizer)

    @property
    def kinds(self) -> tuple[frozenset[torch.device], frozenset[torch.dtype]]:
        """Devices and dtypes of the gradients that `grads` last returned."""
        assert self._layout is not None
        return self._layout.kinds

    def grads(self) -> list[Tensor] | None:
        """Return the gradients (of sharded ones the shards) if the fused kernel may make this step, else None."""
        layout, state = self._layout, self._state
        if layout is not None and layout.is_of(self.optimizer) and (state is None or state.is_current()):
            grads = layout.grads()
            if grads is not None:
                return grads
        return self._look()

    def norm_of(self, grads: list[Tensor], norm_type: float) -> Tensor:
        """Return the total norm, over all processes, of the gradients that `grads` last returned."""
        assert self._layout is not None
        spread = self._layout.spread
        return norm_of(grads, norm_type) if spread is None else norm_of_shards(grads, spread, norm_type)

    def step(self, **kwargs: Any) -> None:
        """Step, with the plain loop where the fused kernel would be wrong."""
        if self._compiled is not None and self._may_use_compiled(kwargs):
            self._compiled()
        elif not self._known or not any(group["fused"] for group in self.optimizer.param_groups):
            self._stepper.step(**kwargs)
        elif kwargs:
            self._say("a closure computes the gradients inside the step")
            self._step_unfused(**kwargs)
        else:
            # Held until the step is over: to let go of their Python objects and take them again takes time.
            grads = self.grads()
            if grads is None:
                self._step_unfused()
            else:
                self.step_with(grads)
        self._has_stepped = True

    def step_with(
        self, grads: list[Tensor], grad_scale: Tensor | None = None, found_inf: Tensor | None = None
    ) -> None:
        """Step with what `grads` has just returned, divided by `grad_scale` (float32), unless `found_inf` is 1."""
        if self._direct is None and self._state is not None and self._layout is not None:
            self._direct = DirectStep.of(self.optimizer, self._state, self._layout.params)
        if self._direct is not None and not self._direct.gives_way:
            self._direct(grads, grad_scale, found_inf)
            return
        with _scaled(self.optimizer, grad_scale, found_inf):
            if self._stepper is self.optimizer:
                step_bare(self.optimizer)
            else:
                self._stepper.step()
        if self._state is None:
            self._state = KnownState(self.optimizer)  # the step has created what was missing

    def compile(self, **kwargs: Any) -> None:
        """Compile the plain loop, which torch.compile fuses by itself; fused kernels are opaque to it.

        The learning rates become tensors, or each new value would be compiled anew.
        """
        if hasattr(self.optimizer, "compile_step"):  # it is made of several
            self.optimizer.compile_step(**kwargs)
            return
        if isinstance(self._stepper, GatheredStep):  # the plain loop would not see whole matrices
            return
        for group in self.optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"])
            if group.get("fused"):
                group["fused"] = False
        if self.optimizer.defaults.get("fused"):
            self.optimizer.defaults["fused"] = False
        self._forget()
        # The class's own step: schedulers replace the optimizer's by one that dynamo does not trace. The first
        # step is not compiled: it creates the state.
        self._compiled = torch.compile(partial(type(self.optimizer).step, self.optimizer), **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a copy of the state, laid out as the parameters are; how it steps stays this run's choice.

        Raises:
            ConfigError: it does not fit (see `loading.load`).
        """
        self._forget()  # else the old state would stay in memory beside the new
        if "param_groups" in state_dict:
            load(self.optimizer, state_dict)
        else:  # those of a HybridOptimizer's parts come here one by one
            self.optimizer.load_state_dict(dict(state_dict))
        align_strides(self.optimizer)

    def _look(self) -> list[Tensor] | None:
        """Look at every parameter, make its state ready, and remember what was found."""
        self._forget()
        groups = [group for group in self.optimizer.param_groups if group["fused"]]
        params = [param for group in groups for param in group["params"]]
        reason = unfit(params)
        if reason is None:
            align_strides(self.optimizer)
            reason = next(filter(None, (prepare(self.optimizer, group) for group in groups)), None)
        if reason is not None:
            self._say(reason)
            return None
        self._layout = Layout.of(self.optimizer, params)
        return self._layout.grads()

    def _may_use_compiled(self, kwargs: Mapping[str, Any]) -> bool:
        return self._has_stepped and not kwargs and not is_replaced(self.optimizer, "step")

    def __getstate__(self) -> dict[str, Any]:
        # What is known of tensors and their addresses holds for this process and these objects.
        return vars(self) | {"_layout": None, "_state": None, "_direct": None}

    def _forget(self) -> None:
        self._layout = self._state = self._direct = None

    def _step_unfused(self, **kwargs: Any) -> None:
        self._forget()  # the plain loop may create state
        with unfused(self.optimizer):
            self._stepper.step(**kwargs)

    def _say(self, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            logger.info("%s steps without its fused kernel where %s.", type(self.optimizer).__name__, reason)


@contextlib.contextmanager
def _scaled(optimizer: Any, grad_scale: Tensor | None, found_inf: Tensor | None) -> Iterator[None]:
    """Let the optimizer's step divide the gradients and do nothing after an overflow, as GradScaler does."""
    if grad_scale is None and found_inf is None:
        yield
        return
    optimizer.grad_scale, optimizer.found_inf = grad_scale, found_inf
    try:
        yield
    finally:
        del optimizer.grad_scale, optimizer.found_inf
