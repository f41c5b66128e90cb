"""When data-parallel modules average gradients, and over which processes."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel


def parallel_modules(model: nn.Module) -> list[nn.Module]:
    """Return the outermost modules of `model` (itself included) that average gradients between processes."""
    if isinstance(model, DistributedDataParallel | FullyShardedDataParallel | FSDPModule):
        return [model]
    return [found for child in model.children() for found in parallel_modules(child)]


@contextlib.contextmanager
def no_sync(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Hold back the averaging of `modules`; DDP reads this in the forward, FSDP in the backward pass."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            if isinstance(module, DistributedDataParallel | FullyShardedDataParallel):
                stack.enter_context(module.no_sync())
        yield


def set_fsdp2_sync(modules: Sequence[nn.Module], sync: bool) -> None:
    """Tell FSDP2 modules whether the next backward pass averages gradients."""
    for module in modules:
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(sync)


def world_size(modules: Sequence[nn.Module] | None) -> int:
    """Return over how many processes gradients are averaged.

    `modules` is what `parallel_modules` found; None (no model seen yet) counts the default process group.
    """
    if not (dist.is_available() and dist.is_initialized()) or modules == []:
        return 1
    return dist.get_world_size(_group(modules))


def all_reduce(value: Tensor, modules: Sequence[nn.Module] | None, op: dist.ReduceOp.RedOpType) -> Tensor:
    """Reduce a scalar over the processes that average gradients; returns a new tensor, on its device."""
    if world_size(modules) > 1:
        value = value.clone()
        dist.all_reduce(value, op, _group(modules))
    return value


def _group(modules: Sequence[nn.Module] | None) -> dist.ProcessGroup | None:
    first = modules[0] if modules else None
    return getattr(first, "process_group", None)  # None: the default group


def scalar(value: float | Tensor, device: torch.device) -> Tensor:
    """Return `value` as a detached float32 scalar on `device`, without waiting for the device."""
    if isinstance(value, Tensor):
        return value.detach().to(device, torch.float32, non_blocking=True).reshape(())
    return torch.full((), float(value), device=device)
