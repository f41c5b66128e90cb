"""What ends an update: the gradients are finished, then the optimizer steps."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from optwrap.errors import ConfigError
from optwrap.optim.step.clip import ClipNorm, ClipValue, multiply_grads, total_norm
from optwrap.optim.step.fused import FusedKernel
from optwrap.optim.step.loss_scaling import LossScaling
from optwrap.optim.step.one_pass import OnePass


class Finish:
    """Unscales, weights and clips the gradients and steps: in one pass where that gives the same, else one by one.

    Attributes:
        kernel: steps the optimizer.
        scaling: the loss scaling, if there is one.
        norm: total norm before clipping by norm, at the latest step that measured it: a scalar tensor.

    Args:
        accumulates: whether the gradients are those of several backward passes.

    Raises:
        TypeError: `optimizer` is none.
    """

    def __init__(self, optimizer: Optimizer, accumulates: bool = False) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}.")
        self.kernel = FusedKernel(optimizer)
        self.scaling: LossScaling | None = None
        self.norm: Tensor | None = None
        self._one_pass = OnePass(self.kernel)
        self._accumulates = accumulates
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        self._needs_closure = closure is not None and closure.default is inspect.Parameter.empty

    def around(self, optimizer: Optimizer) -> "Finish":
        """Return the same for another optimizer.

        Raises:
            ConfigError: torch could not unscale the gradients of its parameters.
        """
        other = Finish(optimizer, self._accumulates)
        other.norm, other.scaling = self.norm, self.scaling
        if self.scaling is not None:
            self.scaling.check_dtypes(other.kernel.params)
        return other

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss times the scale, if there is one."""
        return loss if self.scaling is None else self.scaling.scaler.scale(loss)

    def step(
        self,
        clip: ClipNorm | ClipValue | None,
        factor: Tensor | None,
        measure: bool,
        kwargs: Mapping[str, Any],
    ) -> bool | Tensor:
        """Make the step; return whether an overflow made it a skipped one, as `OnePass.step` does.

        Args:
            clip: how to clip.
            factor: what to multiply the gradients by.
            measure: whether to measure the norm even if nothing needs it.
            kwargs: passed to the optimizer's step.

        Raises:
            ConfigError: the optimizer needs a closure, or is given one that undoes what is asked for; the
                gradients are unscaled already.
        """
        if kwargs or self._needs_closure:
            self._check_closure(clip, factor, kwargs)
        if clip is None and factor is None and self.scaling is None and not measure:
            self.kernel.step(**kwargs)
            return False
        if self.scaling is not None:
            self.scaling.check_scaled(self.kernel.optimizer)
        grads = None if kwargs else self._one_pass.grads(clip, self.scaling)
        if grads is not None:
            skipped = self._one_pass.step(grads, clip, factor, self.scaling, measure)
            self._remember(self._one_pass.norm)
            return skipped
        finish = partial(self._finish_grads, clip, factor, measure)
        if self.scaling is None or all(param.grad is None for param in self.kernel.params):
            finish()  # without a gradient there is no overflow to look for
            self.kernel.step(**kwargs)
            return False
        return self.scaling.step_plainly(self.kernel, finish, **kwargs)

    def _finish_grads(self, clip: ClipNorm | ClipValue | None, factor: Tensor | None, measure: bool) -> None:
        params = self.kernel.params
        if factor is not None:
            multiply_grads([param.grad for param in params if param.grad is not None], factor)
        if clip is not None:
            self._remember(clip(params))
        if measure and not isinstance(clip, ClipNorm):
            self._remember(total_norm(params))

    def _remember(self, norm: Tensor | None) -> None:
        self.norm = self.norm if norm is None else norm

    def check(self, clip: ClipNorm | ClipValue | None) -> None:
        """Raise ConfigError where the optimizer needs a closure, which would undo what is asked for."""
        if self._needs_closure:
            self._check_closure(clip, None, {"closure": None})

    def _check_closure(
        self, clip: ClipNorm | ClipValue | None, factor: Tensor | None, kwargs: Mapping[str, Any]
    ) -> None:
        name = type(self.kernel.optimizer).__name__
        if "closure" not in kwargs:
            if self._needs_closure:
                raise ConfigError(
                    f"{name} evaluates the loss again: update_params needs step_kwargs={{'closure': ...}}. Where "
                    "a task does not give one, choose another optimizer."
                )
            return
        asked_for = {
            "clip_grad": (clip is not None, "set it to null and clip in the closure"),
            "accumulative_counts": (self._accumulates, "set it to 1 and let the closure add up the micro-batches"),
            "update_params(weight=...)": (factor is not None, "let the closure weigh its loss"),
            "loss_scale": (self.scaling is not None, "compute without: dtype=bfloat16, or leave out amp"),
        }
        for key, (is_on, remedy) in asked_for.items():
            if is_on:
                raise ConfigError(
                    f"{key}: {name} takes a closure, whose gradients replace those that the wrapper would finish. "
                    f"Choose another optimizer, such as optim_wrapper=adamw, or {remedy}."
                )
