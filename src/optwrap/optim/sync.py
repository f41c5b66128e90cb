"""When data-parallel modules average gradients, and over which processes."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, ShardingStrategy
from torch.nn.parallel import DistributedDataParallel


def parallel_modules(model: nn.Module) -> list[nn.Module]:
    """Return the outermost modules of `model` (itself included) that average gradients between processes."""
    if isinstance(model, DistributedDataParallel | FullyShardedDataParallel | FSDPModule):
        return [model]
    return [found for child in model.children() for found in parallel_modules(child)]


class ParallelModules:
    """The data-parallel modules of every model that a wrapper has seen: a GAN's has several.

    `all` is None until a model was seen, and empty where none is data-parallel.
    """

    def __init__(self) -> None:
        self.all: list[nn.Module] | None = None
        self._of_model: dict[nn.Module, list[nn.Module]] = {}

    def see(self, model: nn.Module) -> list[nn.Module]:
        """Return the data-parallel modules of `model`, and remember them."""
        if model not in self._of_model:
            self.look_again(model)
        return self._of_model[model]

    def look_again(self, model: nn.Module) -> None:
        """Search `model` anew: fully_shard changes a module in place."""
        self._of_model[model] = found = parallel_modules(model)
        known = self.all or []
        self.all = known + [module for module in found if module not in known]

    @property
    def sharded_by_fsdp1(self) -> bool:
        """Whether gradients are plain shards, which only FSDP1 itself can reduce over processes."""
        fsdp1 = [module for module in self.all or () if isinstance(module, FullyShardedDataParallel)]
        return any(module.sharding_strategy != ShardingStrategy.NO_SHARD for module in fsdp1)


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
    """Return `value` as a new float32 scalar on `device`, without waiting for the device."""
    if isinstance(value, Tensor):
        return value.detach().to(device, torch.float32, non_blocking=True, copy=True).reshape(())
    return torch.full((), float(value), device=device)
