"""One pass over the gradients: unscaling, weighting, clipping and the step inside the fused kernel.

By hand unscaling, weighting and clipping each read and write every gradient, and the step reads them again. Here
one look measures their total norm, from which follow the clip coefficient and whether they overflowed; the kernel
divides by what remains as it steps.
"""

import math

import torch
from torch import Tensor

from optwrap.optim.step.clip import ClipNorm, ClipValue
from optwrap.optim.step.fused import FusedKernel
from optwrap.optim.step.loss_scaling import LossScaling
from optwrap.optim.step.own_step import is_intercepted, is_scaled

_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})  # the kernel's divisor is a float32
_FLOAT32_MAX = torch.finfo(torch.float32).max


class OnePass:
    """Finishes the gradients of an update and steps, wherever `grads` finds that this can be one pass.

    After a step the gradients are the true ones: unscaled, weighted, clipped. A skipped step leaves them as the
    backward pass did.

    Args:
        kernel: steps the optimizer.
        on_host: whether the host decides, by reading tensors: on the CPU that waits for nothing, and a division
            that turns out to be by 1 can be left out. None: where the gradients are on the CPU.

    Attributes:
        norm: true total norm before clipping of the latest step, a scalar tensor; None if it measured none.
    """

    def __init__(self, kernel: FusedKernel, on_host: bool | None = None) -> None:
        self.on_host = on_host
        self.norm: Tensor | None = None
        self._kernel = kernel

    def grads(self, clip: ClipNorm | ClipValue | None, scaling: LossScaling | None) -> list[Tensor] | None:
        """Return the gradients, or None where the step needs finished gradients or the plain loop."""
        optimizer = self._kernel.optimizer
        if not self._kernel.folds or not _is_foldable(clip) or is_intercepted(optimizer) or is_scaled(optimizer):
            return None
        grads = self._kernel.grads()
        if not grads:  # without a gradient there is no overflow to look for
            return None
        devices, dtypes = self._kernel.kinds
        # GradScaler refuses float16 gradients; the plain path lets it say so.
        suited = len(devices) == 1 and dtypes <= _DTYPES and not (scaling and torch.float16 in dtypes)
        return grads if suited else None

    def step(
        self,
        grads: list[Tensor],
        clip: ClipNorm | ClipValue | None,
        factor: Tensor | None,
        scaling: LossScaling | None,
        measure: bool,
    ) -> bool | Tensor:
        """Step with the gradients times `factor`, unscaled and clipped; measure their norm at least if `measure`.

        Returns whether the step was skipped: on CUDA as a tensor, 1.0 if so, since the host does not know yet.
        """
        assert not isinstance(clip, ClipValue)
        self.norm = norm = None
        if clip is not None or scaling is not None or measure:
            norm = self._kernel.norm_of(grads, 2.0 if clip is None else clip.norm_type)
        on_host = grads[0].device.type == "cpu" if self.on_host is None else self.on_host
        decide = self._decide_on_host if on_host else self._decide_on_device
        divisor, skipped = decide(norm, clip, factor, scaling)
        if skipped is not True:
            self._kernel.step_with(grads, divisor, skipped if isinstance(skipped, Tensor) else None)
        return skipped

    def _decide_on_host(
        self, norm: Tensor | None, clip: ClipNorm | None, factor: Tensor | None, scaling: LossScaling | None
    ) -> tuple[Tensor | None, bool]:
        """Return what to divide the gradients by, and whether to skip the step."""
        multiplier = 1.0 if factor is None else factor.item()
        scale = 1.0 if scaling is None else scaling.scaler.get_scale()
        multiplier = multiplier / scale if scale else math.nan  # it was halved to nothing
        if norm is not None:
            held_norm = norm.item()
            true_norm = held_norm * multiplier
            self.norm = _scalar(true_norm)
            if scaling is not None:
                overflowed = not math.isfinite(held_norm) or scale == 0
                scaling.update(overflowed)
                if overflowed:
                    return None, True
            if clip is not None and math.isfinite(clip.max_norm):
                coefficient = clip.max_norm / (true_norm + 1e-6)
                multiplier *= 1.0 if coefficient > 1 else coefficient  # NaN stays, as in torch
        if multiplier == 1:
            return None, False
        divisor = math.inf if multiplier == 0 else 1 / multiplier
        return _scalar(math.inf if divisor > _FLOAT32_MAX else divisor), False

    def _decide_on_device(
        self, norm: Tensor | None, clip: ClipNorm | None, factor: Tensor | None, scaling: LossScaling | None
    ) -> tuple[Tensor | None, bool | Tensor]:
        """As `_decide_on_host`, by operations on tensors alone: nothing waits for the device."""
        divisor: Tensor | None = None
        skipped: bool | Tensor = False
        if scaling is not None:
            assert norm is not None
            divisor = scaling.scale_on(norm.device)
            true_norm = norm / divisor  # a scale that was halved to nothing is an overflow too
            skipped = true_norm.isfinite().logical_not().float()
            scaling.update(skipped)
        if factor is not None:
            divisor = 1 / factor if divisor is None else divisor / factor
        if norm is not None:
            if scaling is None or factor is not None:
                true_norm = norm if divisor is None else norm / divisor
            self.norm = true_norm.float()
            if clip is not None and math.isfinite(clip.max_norm):
                excess = ((true_norm + 1e-6) / clip.max_norm).clamp(min=1.0)
                divisor = excess if divisor is None else divisor * excess
        return None if divisor is None else divisor.float(), skipped


def _scalar(value: float) -> Tensor:
    return torch.full((), value, dtype=torch.float32, device="cpu")  # whatever the user's defaults


def _is_foldable(clip: ClipNorm | ClipValue | None) -> bool:
    if clip is None:
        return True
    # Above 2, powers of large gradients overflow even in float64. A strategy of the user's own is called.
    return (
        type(clip) is ClipNorm
        and not clip.error_if_nonfinite
        and (clip.norm_type <= 2 or clip.norm_type == math.inf)
    )
