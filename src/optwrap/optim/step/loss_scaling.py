"""Loss scaling that learns of an overflow from the total norm of the gradients."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from optwrap.errors import ConfigError
from optwrap.optim.parallel.sharding import agree_on_any, on_shards, spread
from optwrap.optim.step.fused import FusedKernel


class LossScaling:
    """A GradScaler and its static scale, if it has one, with two ways to look for an overflow.

    `step_plainly` lets GradScaler unscale and check every gradient. `update` is told of it instead, by the total
    norm: it is finite if and only if they are.
    """

    def __init__(self, scaler: GradScaler, static_scale: float | None) -> None:
        self.scaler = scaler
        self.static_scale = static_scale
        self._flags = [torch.full((), flag, dtype=torch.float32, device="cpu") for flag in (0.0, 1.0)]

    def check_scaled(self, optimizer: Optimizer) -> None:
        """Raise ConfigError if the gradients were unscaled already, by `scaler.unscale_(optimizer)`."""
        states = self.scaler._per_optimizer_states
        if id(optimizer) in states and states[id(optimizer)]["found_inf_per_device"]:
            del states[id(optimizer)]
            raise ConfigError(
                "loss_scaler.unscale_(optimizer): the wrapper's step unscales gradients itself, and would divide "
                "them by the scale again. Leave the call out: clip through clip_grad, read gradients after step()."
            )

    def check_dtypes(self, params: Iterable[Tensor]) -> None:
        """Raise ConfigError if a parameter is in float16: torch unscales no such gradients."""
        if any(param.dtype == torch.float16 for param in params):
            raise ConfigError(
                "optim_wrapper.loss_scale: the model's weights are float16, whose gradients torch cannot unscale. "
                "Keep them in float32 (amp casts by itself), without model.half(); or let both weights and "
                "optim_wrapper.dtype be bfloat16."
            )

    def scale_on(self, device: torch.device) -> Tensor:
        """Return the scale as a new scalar tensor."""
        return self.scaler.scale(torch.ones((), device=device))

    def update(self, overflowed: bool | Tensor) -> None:
        """Move the scale after a step that `overflowed` (as a tensor 1.0) or did not, unless it is static."""
        if self.static_scale is not None:
            return
        flag = overflowed if isinstance(overflowed, Tensor) else self._flags[overflowed]
        # Where GradScaler keeps what its own look at the gradients found, and `update` reads it.
        self.scaler._per_optimizer_states[id(self)]["found_inf_per_device"] = {flag.device: flag}
        self.scaler.update()

    def step_plainly(self, kernel: FusedKernel, finish: Callable[[], None], **kwargs: Any) -> bool:
        """Unscale, `finish` the gradients and step; return whether an overflow made this a skipped step."""
        with on_shards(kernel.params) as shards:
            stepper: Any = _Stepper(kernel, shards)
            try:
                self.scaler.unscale_(stepper)
            except ValueError:
                self.check_dtypes(kernel.params)  # cast since the wrapper was made
                raise
        grads = [param.grad for param in kernel.params if param.grad is not None]
        for found_inf in self.scaler._found_inf_per_device(stepper).values():
            found_inf += self.scale_on(found_inf.device) == 0  # 0 / 0 is no gradient
            agree_on_any(found_inf, spread(grads))
        try:
            finish()
            self.scaler.step(stepper, **kwargs)
        except BaseException:
            self.scaler.update(self.scaler.get_scale())  # else it would refuse every later step
            raise
        self.scaler.update(self.static_scale)
        return not stepper.stepped


class _Stepper:
    """What GradScaler takes for the optimizer: it decides on the host, and steps with a guarded kernel."""

    def __init__(self, kernel: FusedKernel, params: list[Tensor]) -> None:
        self.param_groups = [{"params": params}]
        self.stepped = False
        self._kernel = kernel

    def step(self, **kwargs: Any) -> None:
        self._kernel.step(**kwargs)
        self.stepped = True
