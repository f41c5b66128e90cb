"""How a model is spread over the ranks of a run: replicated by DDP, or sharded by FSDP2."""

import logging
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim import MultiOptimWrapperConstructor
from optwrap.optim.assignment.blocks import expand_blocks, find_blocks
from optwrap.optim.assignment.params import submodules
from optwrap.plan.ranks import Ranks
from optwrap.run.setup import Process

logger = logging.getLogger(__name__)


def parallelise(model: nn.Module, run: Any, process: Process) -> nn.Module:
    """Return `model` as a task shall call it, spread over the ranks as `run.strategy` says, of the run's config.

    Submodules with wrappers of their own, as a GAN's, are spread one by one. Names of parameters stay those of
    the plain model wherever optwrap shows or saves them.

    Raises:
        ConfigError: the strategy needs several processes, or an option does not fit the model or the device.
    """
    cfg, batch_size, ranks, device = run.strategy, run.batch_size, process.ranks, process.device
    if not dist.is_initialized():
        if cfg.name not in ("auto", "single"):
            raise ConfigError(
                f"strategy={cfg.name}: this run is one process. Start several: torchrun --nproc-per-node 2 "
                "train.py ..., or nproc=2."
            )
        return model
    name = "ddp" if cfg.name == "auto" else cfg.name
    if name == "single":
        raise ConfigError(f"strategy=single: this run has {ranks.size} processes. Use strategy=ddp or fsdp2.")
    _check(cfg, name, ranks)
    norms = any(isinstance(module, _BatchNorm) for module in model.modules())
    if cfg.sync_batch_norm:
        model = _with_synchronised_batch_norm(model, device)
    logger.info(
        "%s over %d rank%s of %d sample%s each, batch_size=%d.%s",
        *(name, ranks.size, "s" * (ranks.size > 1), batch_size // ranks.size, "s" * (batch_size > ranks.size)),
        batch_size,
        " Batch norm sees the samples of its own rank." if norms and not cfg.sync_batch_norm else "",
    )
    spread = partial(_replicated, exactly=run.deterministic) if name == "ddp" else _sharded
    modules = cfg.modules or _with_own_wrappers(run.optim_wrapper)
    if not modules:
        return spread(model, cfg, device, ranks)
    for path in modules:
        model.set_submodule(path, spread(_submodule(model, path), cfg, device, ranks))
    return model


def _with_own_wrappers(optim_wrapper: Any) -> list[str]:
    several = optim_wrapper.constructor._target_ == f"optwrap.optim.{MultiOptimWrapperConstructor.__name__}"
    return [name for name in optim_wrapper if name != "constructor"] if several else []


def _check(cfg: Any, name: str, ranks: Ranks) -> None:
    if cfg.replicas < 1 or ranks.size % cfg.replicas:
        raise ConfigError(f"strategy.replicas={cfg.replicas}: the {ranks.size} ranks do not divide by it.")
    for key, value, only in (
        ("find_unused_parameters", cfg.find_unused_parameters, "ddp"),
        ("replicas", cfg.replicas != 1, "fsdp2"),
        ("blocks", cfg.blocks is not None, "fsdp2"),
    ):
        if value and name != only:
            raise ConfigError(f"strategy.{key}={cfg[key]} is for strategy={only}; this is strategy={name}.")


def _replicated(model: nn.Module, cfg: Any, device: torch.device, ranks: Ranks, exactly: bool) -> nn.Module:
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=cfg.find_unused_parameters,
        # Views save memory and a copy. DDP lays its buckets out anew after the first update, and so a resumed run
        # adds up the norm of such gradients in another order, to a last digit.
        gradient_as_bucket_view=not exactly,
    )


def _sharded(model: nn.Module, cfg: Any, device: torch.device, ranks: Ranks) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh  # here, since most runs have no use for it
    from torch.distributed.fsdp import fully_shard

    if cfg.replicas == 1:
        mesh = init_device_mesh(device.type, (ranks.size,))
    else:
        shape = (cfg.replicas, ranks.size // cfg.replicas)
        mesh = init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard"))
    for block in _blocks(model, cfg):
        fully_shard(model.get_submodule(block), mesh=mesh, reshard_after_forward=cfg.reshard_after_forward)
    fully_shard(model, mesh=mesh, reshard_after_forward=cfg.reshard_after_forward)
    return model


def _blocks(model: nn.Module, cfg: Any) -> list[str]:
    """Return the modules that are gathered by themselves, so that the whole model never is at one time."""
    if cfg.blocks is not None:
        return expand_blocks(model, cfg.blocks, key="strategy")
    try:
        return find_blocks(model)
    except ConfigError:  # none that could be told; then the model is gathered as one
        return []


def _with_synchronised_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    if device.type != "cuda":
        raise ConfigError(f"strategy.sync_batch_norm=true: torch has it on CUDA alone, this is device={device}.")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def _submodule(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise ConfigError(
            f"strategy.modules: {path!r} names no module of {type(model).__name__}."
            f"{did_you_mean(path, submodules(model))}"
        ) from error
