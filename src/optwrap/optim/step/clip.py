"""Gradient clipping: the two strategies that `clip_grad` names."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.parallel.sharding import on_shards, shards_of
from optwrap.optim.step.norm import norm_of


@dataclass(frozen=True)
class ClipNorm:
    """Scale all gradients so that their total norm is at most `max_norm`."""

    max_norm: float
    norm_type: float = 2.0
    error_if_nonfinite: bool = False

    def __call__(self, params: Iterable[Tensor]) -> Tensor:
        """Clip in place; return the total norm before clipping, on the gradients' device.

        Raises:
            RuntimeError: the norm is not finite, and `error_if_nonfinite` is set (which waits for the device).
        """
        params = list(params)
        norm = total_norm(params, self.norm_type)
        if self.error_if_nonfinite and not norm.isfinite():
            raise RuntimeError(f"The total norm of the gradients is non-finite: {norm.item()}.")
        if math.isfinite(self.max_norm):  # else it only measures; inf / inf would be NaN
            with on_shards(params) as shards:
                clip_grads_with_norm_(shards, self.max_norm, norm)
        return norm


def total_norm(params: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """Return the total norm of the gradients of `params`, in float32 unless a gradient is float64."""
    grads = [_values_of(param.grad) for param in params if param.grad is not None]
    norm = norm_of(grads, norm_type)
    return norm if any(grad.dtype == torch.float64 for grad in grads) else norm.float()


@dataclass(frozen=True)
class ClipValue:
    """Limit each element of each gradient to `[-clip_value, clip_value]`."""

    clip_value: float

    def __call__(self, params: Iterable[Tensor]) -> None:
        """Clip in place what gradients there are; torch's own function refuses to find none."""
        filled = [param for param in params if param.grad is not None]
        for param in filled:
            if (grad := param.grad) is not None and grad.is_sparse:  # torch's own function takes none
                param.grad = grad = grad.coalesce()
                grad.values().clamp_(-self.clip_value, self.clip_value)
        dense = [param for param in filled if param.grad is not None and not param.grad.is_sparse]
        if dense:
            with on_shards(dense) as shards:
                clip_grad_value_(shards, self.clip_value)


def _values_of(grad: Tensor) -> Tensor:
    """Return the elements that may not be zero: of a sparse gradient, whose repeated rows count as their sum."""
    return grad.coalesce().values() if grad.is_sparse else grad


def parse_clip_grad(cfg: Mapping[str, Any] | None) -> ClipNorm | ClipValue | None:
    """Turn `clip_grad` into a strategy; None, an empty mapping or one of nulls is 'off'.

    Raises:
        ConfigError: a field is unknown or out of range, or both strategies are asked for.

    >>> parse_clip_grad({"max_norm": 1.0})
    ClipNorm(max_norm=1.0, norm_type=2.0, error_if_nonfinite=False)
    """
    if not isinstance(cfg, Mapping | None):
        raise ConfigError(f"clip_grad={cfg!r}: it is a mapping, such as {{max_norm: 1.0}}; null: off.")
    given = {name: value for name, value in (cfg or {}).items() if value is not None}
    known = ["type", *(f.name for f in fields(ClipNorm)), *(f.name for f in fields(ClipValue))]
    for name, value in given.items():
        if name not in known:
            raise ConfigError(
                f"clip_grad.{name}={value!r}: there is no such field.{did_you_mean(name, known)} "
                "Give {max_norm, norm_type, error_if_nonfinite} or {clip_value}."
            )
    kind = given.pop("type", None)
    if kind not in (None, "norm", "value"):
        raise ConfigError(f"clip_grad.type={kind!r}: it is norm or value, or left out.")
    if "max_norm" in given and "clip_value" in given:
        raise ConfigError(
            f"clip_grad: max_norm={given['max_norm']!r} and clip_value={given['clip_value']!r} are both set; "
            "keep one and set the other to null."
        )
    needed = {"norm": "max_norm", "value": "clip_value"}.get(kind or "")
    if needed and needed not in given:
        raise ConfigError(f"clip_grad.type={kind!r} needs clip_grad.{needed}.")
    if "clip_value" in given:
        return ClipValue(_positive("clip_value", given["clip_value"]))
    if "max_norm" in given:
        max_norm = _positive("max_norm", given["max_norm"])
        norm_type = _positive("norm_type", given.get("norm_type", 2.0))
        return ClipNorm(max_norm, norm_type, bool(given.get("error_if_nonfinite", False)))
    return None


def _positive(name: str, value: Any) -> float:
    try:
        number = float(value)  # 'inf' may be a string in YAML
    except (TypeError, ValueError):
        number = float("nan")
    if not number > 0:
        raise ConfigError(f"clip_grad.{name}={value!r}: it must be a number above 0. Null switches clipping off.")
    return number


def multiply_grads(grads: Iterable[Tensor], factor: Tensor) -> None:
    """Multiply gradients in place by a scalar tensor, one fused call a device."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for grad in shards_of(list(grads)):
        by_device.setdefault(grad.device, []).append(grad)
    for device, tensors in by_device.items():
        torch._foreach_mul_(tensors, factor.to(device, non_blocking=True))
