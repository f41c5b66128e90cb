"""Who would notice if an optimizer's `step` or `zero_grad` were not called: hooks, replacements, profilers.

And torch's own methods without what keeps its compiler off them: that loads the compiler, which takes a second or
two and is of use to few runs. Once it is loaded, methods are what they are.
"""

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
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


def note_step(optimizer: Optimizer) -> None:
    """Note for torch's schedulers that a step was made, as the `step` that they put in its place does."""
    if "step" in vars(optimizer):
        optimizer._opt_called = True  # type: ignore[attr-defined]


@contextlib.contextmanager
def built_bare() -> Iterator[None]:
    """Let optimizers be built inside without loading torch's compiler."""
    decorated = Optimizer.add_param_group
    if _compiler_is_loaded() or not hasattr(decorated, "__wrapped__") or not _is_of_torch(decorated):
        yield  # another thread builds one now, or somebody has put his own in its place
        return
    Optimizer.add_param_group = inspect.unwrap(decorated)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Optimizer.add_param_group = decorated  # type: ignore[method-assign]


def bare(optimizer: Optimizer, method: str) -> Callable[..., Any]:
    """Return a method of the optimizer that does not load torch's compiler, where it is torch's own."""
    if _compiler_is_loaded() or is_replaced(optimizer, method):
        return getattr(optimizer, method)
    return partial(inspect.unwrap(getattr(type(optimizer), method)), optimizer)


def step_bare(optimizer: Optimizer) -> None:
    """Do what `optimizer.step()` does, without loading torch's compiler where nobody would notice."""
    noticed = is_intercepted(optimizer) or is_profiled() or optimizer.defaults.get("differentiable")
    if noticed or _compiler_is_loaded():
        optimizer.step()
        return
    with torch.no_grad():
        bare(optimizer, "step")()
    note_step(optimizer)


def _compiler_is_loaded() -> bool:
    return "torch._dynamo" in sys.modules


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
