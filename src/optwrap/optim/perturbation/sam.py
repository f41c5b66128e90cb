"""Sharpness-aware minimisation: gradients at the worst weights nearby."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.parallel.sharding import shards_of
from optwrap.optim.step.norm import norm_of

FIELDS = {"rho": None, "adaptive": False}
_SMALLEST = 1e-12  # added to the norm: a gradient of zeros moves nothing


class Sam:
    """Moves weights to where the loss is highest, to first order, within a radius; and back.

    Args:
        rho: the radius.
        adaptive: a radius of each weight's own size, so that a rescaling of layers changes nothing.

    Source: Foret et al., Sharpness-Aware Minimization, 2021; adaptive: Kwon et al., ASAM, 2021.

    >>> weight = torch.tensor([3.0, 4.0])
    >>> weight.grad = torch.tensor([0.6, 0.8])
    >>> sam = Sam(rho=1.0)
    >>> sam.climb([weight])
    >>> weight
    tensor([3.6000, 4.8000])
    >>> sam.go_back()
    >>> weight
    tensor([3., 4.])
    """

    def __init__(self, rho: float = 0.05, adaptive: bool = False) -> None:
        if isinstance(rho, bool) or not isinstance(rho, int | float) or not 0 < rho < float("inf"):
            raise ConfigError(f"sam.rho={rho!r}: it is a number above 0; null: off.")
        self.rho, self.adaptive = rho, adaptive
        self._before: list[tuple[Tensor, Tensor]] | None = None
        self._is_finite: Tensor | None = None  # 1, or NaN after a first pass whose gradients are not finite

    @property
    def has_climbed(self) -> bool:
        """Whether the weights are those of the second pass."""
        return self._before is not None

    @torch.no_grad()
    def climb(self, params: Sequence[Tensor]) -> None:
        """Move `params` along their gradients, which may be multiplied by any factor."""
        moved = [param for param in params if param.grad is not None]
        grads: list[Any] = [_dense(param.grad) for param in moved]
        self._before = [(param, param.detach().clone()) for param in moved]
        if not moved:
            return
        scaled = [param.abs() * grad for param, grad in zip(moved, grads, strict=True)] if self.adaptive else grads
        norm = norm_of(scaled, 2.0)
        self._is_finite = 1 + 0 * norm
        factor = self.rho / (norm + _SMALLEST)
        if self.adaptive:
            grads = [param.square() * grad for param, grad in zip(moved, grads, strict=True)]
        for param, grad in zip(shards_of(moved), shards_of(grads), strict=True):
            param.add_(grad * factor.to(grad.device, grad.dtype))

    def checked(self, loss: Tensor) -> Tensor:
        """Return the loss of the second pass, made NaN where the gradients of the first were not finite."""
        return loss if self._is_finite is None else loss * self._is_finite.to(loss.device, loss.dtype)

    @torch.no_grad()
    def go_back(self) -> None:
        """Put the weights back to what they were, to the bit."""
        for param, value in self._before or ():
            param.copy_(value)
        self._before = self._is_finite = None


def parse_sam(config: Mapping[str, Any] | None) -> Sam | None:
    """Return what a config asks for; None where its `rho` is None.

    Raises:
        ConfigError: a field is unknown or out of range.
    """
    config = dict(config or {})
    for name, value in config.items():
        if name not in FIELDS:
            raise ConfigError(f"sam.{name}={value!r}: there is no such field.{did_you_mean(name, FIELDS)}")
        if config.get("rho") is None and value != FIELDS[name]:
            raise ConfigError(f"sam.{name}={value!r} has no effect without sam.rho, such as 0.05.")
    return None if config.get("rho") is None else Sam(**config)


def _dense(grad: Tensor | None) -> Tensor | None:
    return grad.to_dense() if grad is not None and grad.is_sparse else grad
