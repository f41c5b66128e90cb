"""Who would notice if an optimizer's `step` or `zero_grad` were not called: hooks, replacements, profilers."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

_DECORATORS = ("torch._compile", "torch.utils._contextlib")  # what torch decorates methods with


def is_intercepted(optimizer: Optimizer) -> bool:
    """Whether a hook or a replaced `step` may read parameters and finished gradients at every step."""
    return _has_hooks(optimizer) or is_replaced(optimizer, "step")


def _has_hooks(optimizer: Optimizer) -> bool:
    """Whether the optimizer, or all optimizers, have step hooks."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or torch_optimizer._global_optimizer_pre_hooks
        or torch_optimizer._global_optimizer_post_hooks
    )


def is_replaced(optimizer: Optimizer, method: str) -> bool:
    """Whether anyone but torch wrote or wrapped a method, on the optimizer or on its class."""
    if not _is_of_torch(getattr(type(optimizer), method)):
        return True
    if method not in vars(optimizer):
        return False
    own = vars(optimizer)[method]
    return own is None or getattr(own, "__self__", optimizer) is not optimizer or not _is_of_torch(own)


def is_scaled(optimizer: Optimizer) -> bool:
    """Whether a GradScaler of the user's own has told the optimizer of a scale or an overflow."""
    return getattr(optimizer, "grad_scale", None) is not None or getattr(optimizer, "found_inf", None) is not None


def is_profiled() -> bool:
    """Whether a profiler looks for the records that torch's methods make."""
    return torch.autograd._profiler_enabled()


def _is_of_torch(method: Callable[..., Any] | None) -> bool:
    """Whether every layer of a method is torch's: its profiler and its schedulers wrap `step`."""
    while method is not None:
        # functools.wraps copies a function's name and module, but not its globals.
        module = getattr(method, "__globals__", {}).get("__name__", "")
        if not module.startswith("torch.optim.") and module not in _DECORATORS:
            return False
        method = getattr(method, "__wrapped__", None)
    return True
