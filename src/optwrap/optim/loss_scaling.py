"""Loss scaling that learns of an overflow from the total norm of the gradients."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.amp import GradScaler

from optwrap.optim.fused import FusedKernel
from optwrap.optim.sharding import agree_on_any, on_shards, spread


class LossScaling:
    """A GradScaler and its static scale, if it has one, with two ways to look for an overflow.

    `step_plainly` lets GradScaler unscale and check every gradient. `show` gives it their total norm instead,
    which is finite if and only if they are, and leaves the gradients alone.
    """

    def __init__(self, scaler: GradScaler, static_scale: float | None) -> None:
        self.scaler = scaler
        self.static_scale = static_scale
        self._witness: _Witness | None = None

    def scale_on(self, device: torch.device) -> Tensor:
        """Return the scale as a new scalar tensor."""
        return self.scaler.scale(torch.ones((), device=device))

    def show(self, norm: Tensor) -> None:
        """Let the total norm, scaled as the gradients are, stand for them: `update` goes by it."""
        if self._witness is None or self._witness.norm.device != norm.device:
            self._witness = _Witness(norm.device)
        self._witness.norm.grad = norm.to(torch.float64, copy=True)
        self.scaler.unscale_(cast(Any, self._witness))

    def overflowed(self) -> Tensor:
        """Return 1.0 if the norm that was shown is not finite, else 0.0, without waiting for the device."""
        assert self._witness is not None
        self.scaler.step(cast(Any, self._witness))
        return self._witness.overflowed

    def update(self) -> None:
        """Move the scale after a step, or keep it where it is static."""
        self.scaler.update(self.static_scale)

    def step_plainly(self, kernel: FusedKernel, finish: Callable[[], None], **kwargs: Any) -> bool:
        """Unscale, `finish` the gradients and step; return whether an overflow made this a skipped step."""
        with on_shards(kernel.params) as shards:
            stepper: Any = _Stepper(kernel, shards)
            self.scaler.unscale_(stepper)
        grads = [param.grad for param in kernel.params if param.grad is not None]
        for found_inf in self.scaler._found_inf_per_device(stepper).values():
            agree_on_any(found_inf, spread(grads))
        try:
            finish()
            self.scaler.step(stepper, **kwargs)
        except BaseException:
            self.scaler.update(self.scaler.get_scale())  # else it would refuse every later step
            raise
        self.update()
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


class _Witness:
    """What GradScaler takes for an optimizer that steps on the device: its one gradient is the total norm."""

    _step_supports_amp_scaling = True  # so that GradScaler sets `found_inf` and waits for nothing
    found_inf: Tensor
    overflowed: Tensor

    def __init__(self, device: torch.device) -> None:
        self.norm = torch.zeros((), dtype=torch.float64, device=device)
        self.param_groups = [{"params": [self.norm]}]

    def step(self) -> None:
        self.overflowed = self.found_inf
