"""When data-parallel modules average gradients, and over which processes."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from optwrap.errors import ConfigError
from optwrap.optim.assignment.params import holds_back
from optwrap.optim.assignment.untrained import Untrained
from optwrap.optim.parallel.dtensors import is_fsdp1, is_fsdp2
from optwrap.optim.parallel.sharding import is_sharded


def parallel_modules(model: nn.Module) -> list[nn.Module]:
    """Return the outermost modules of `model` (itself included) that average gradients between processes.

    These are torch's, and any whose class has a context `no_sync`, as engines and wrappers of others have.
    """
    if is_fsdp2(model) or holds_back(model):
        return [model]
    return [found for child in model.children() for found in parallel_modules(child)]


class ParallelModules:
    """The data-parallel modules of every model that a wrapper has seen: a GAN's has several.

    `all` is None until a model was seen, and empty where none is data-parallel. `untrained` looks at each one too.
    """

    def __init__(self, untrained: Untrained) -> None:
        self.untrained = untrained
        self.all: list[nn.Module] | None = None
        self._of_model: dict[nn.Module, list[nn.Module]] = {}

    def see(self, model: nn.Module) -> list[nn.Module]:
        """Return the data-parallel modules of `model`, and remember them."""
        if model not in self._of_model:
            self.look_again(model)
        return self._of_model[model]

    def look_again(self, model: nn.Module) -> None:
        """Search `model` anew: fully_shard changes a module in place."""
        self.untrained.look(model)
        self._of_model[model] = found = parallel_modules(model)
        known = self.all or []
        self.all = known + [module for module in found if module not in known]

    def look_for_untrained(self) -> None:
        """Look at every model that was seen: a layer may have been unfrozen or replaced since."""
        for model in self._of_model:
            self.untrained.look(model)

    @property
    def sharded_by_fsdp1(self) -> bool:
        """Whether gradients are plain shards, which only FSDP1 itself can reduce over processes."""
        fsdp1 = [module for module in self.all or () if is_fsdp1(module)]
        return any(module.sharding_strategy.name != "NO_SHARD" for module in fsdp1)

    def check_sam(self, accumulative_counts: int) -> None:
        """Raise ConfigError where a first pass without averaging would get into the gradients of the second."""
        sharded = [each for each in self.all or () if is_fsdp2(each)]
        if self.sharded_by_fsdp1 or (sharded and accumulative_counts > 1):
            raise ConfigError(
                "sam: sharded gradients are held in one place until they are averaged, where those of the first "
                "pass would stay. Under fsdp2 take accumulative_counts=1, or strategy=ddp."
            )

    def check(self, accumulative_counts: int, clips: bool, params: Callable[[], Sequence[Tensor]]) -> None:
        """Raise ConfigError where an update of `accumulative_counts` micro-batches on `params` would go wrong."""
        modules = self.all or ()
        if clips and self.sharded_by_fsdp1:
            raise ConfigError("clip_grad: FSDP1 would clip each rank's shard by itself. Use FSDP2 (fully_shard).")
        static = any(isinstance(each, DistributedDataParallel) and each.static_graph for each in modules)
        if static and accumulative_counts > 1:
            raise ConfigError(
                f"accumulative_counts={accumulative_counts}: DDP's static_graph=True averages gradients in the "
                "first backward pass, which accumulation holds back. Leave out static_graph."
            )
        if any(is_fsdp2(each) for each in modules) and not is_sharded(params()):
            owned = {id(param) for model in self._of_model for param in model.parameters()}
            if not any(id(param) in owned for param in params()):
                raise ConfigError("fully_shard gave the model new parameters: build the wrapper after it.")


@contextlib.contextmanager
def averaged(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Raise ConfigError if the backward pass inside leaves a DDP module's gradients not averaged; takes 1 us.

    DDP itself raises in the forward pass after the next step, and never in the last step of a run.
    """
    yield
    for module in modules:
        if isinstance(module, DistributedDataParallel):
            try:
                module._check_reducer_finalized()
            except RuntimeError as error:
                raise ConfigError(_unused(module, str(error))) from error


def _unused(module: DistributedDataParallel, text: str) -> str:
    found = re.search(r"did not receive grad for rank \d+:((?: \d+)+)", text)
    if found is None:
        return text
    # DDP counts the parameters that it averages, in their order.
    names = [
        name
        for name, param in module.module.named_parameters()
        if param.requires_grad and name not in module.parameters_to_ignore
    ]
    unused = [names[int(i)] for i in found[1].split() if int(i) < len(names)]
    some = ", ".join(unused[:8]) + (f" and {len(unused) - 8} more" if len(unused) > 8 else "")
    return (
        f"The loss does not depend on every parameter of {type(module.module).__name__}, so DDP did not average "
        f"the gradients. Unused here: {some}. Use them, freeze them before training, or set "
        "strategy.find_unused_parameters=true (DistributedDataParallel's own argument of that name)."
    )


@contextlib.contextmanager
def no_sync(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Hold back the averaging of `modules`; DDP reads this in the forward, FSDP in the backward pass."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            if not is_fsdp2(module):
                stack.enter_context(module.no_sync())  # type: ignore[operator]
        yield


def set_fsdp2_sync(modules: Sequence[nn.Module], sync: bool) -> None:
    """Tell FSDP2 modules whether the next backward pass averages gradients."""
    for module in modules:
        if is_fsdp2(module):
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
