"""What stands before a run: its seed, and this process's device and rank."""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from optwrap.errors import ConfigError
from optwrap.plan.random_state import mix
from optwrap.plan.ranks import ALONE, Ranks
from optwrap.run.threads import CpuTime, keep_freed_memory


@dataclass(frozen=True)
class Process:
    """This process of a run: where it computes, its place among the ranks, and how busy the cores were before."""

    device: torch.device
    ranks: Ranks = ALONE
    before: CpuTime = field(default_factory=CpuTime.now)

    @property
    def state_device(self) -> torch.device:
        """Where a checkpoint is read to: of several ranks each may hold a part alone, so the host."""
        return self.device if self.ranks.size == 1 else torch.device("cpu")


def set_up(cfg: DictConfig) -> Process:
    """Seed all generators by `cfg.seed`; return the process, on the device that `cfg.device` means.

    Raises:
        ConfigError: as `seed_everything` and `find_device`.
    """
    seed_everything(cfg.seed, cfg.deterministic)
    ranks = Ranks.current()
    device = find_device(cfg.device, ranks)
    if device.type == "cpu":
        keep_freed_memory()
    return Process(device, ranks)


def memory_format(cfg: DictConfig) -> torch.memory_format:
    """Return how tensors of four dimensions lie in memory, those of the model and those of batches."""
    return torch.channels_last if cfg.channels_last else torch.preserve_format


def machine(process: Process) -> dict[str, Any]:
    """Return what a run is to be repeated on: the device and its driver, threads and ranks."""
    on_cuda = process.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(process.device) if on_cuda else str(process.device),
        "cuda": torch.version.cuda if on_cuda else None,
        "driver": _driver() if on_cuda else None,
        "threads": torch.get_num_threads(),
        "ranks": process.ranks.size,
    }


def _driver() -> str | None:
    """Return the version of NVIDIA's driver, where the kernel says it."""
    try:
        said = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    return said.splitlines()[0] if said else None


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and torch; `deterministic` also forbids algorithms whose results vary.

    Raises:
        ConfigError: the seed is negative, or does not fit 63 bits.
    """
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed={seed}: it must lie between 0 and 2**63 - 1.")
    _seed_generators(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # to say so loads torch's compiler
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def seed_rank(seed: int, ranks: Ranks) -> None:
    """Give each rank random numbers of its own, for dropout and the like; those of rank 0 stay as they were.

    Call it when the model is built, which must be the same on all ranks.
    """
    if not ranks.is_first:
        _seed_generators(mix(seed, ranks.rank))


def _seed_generators(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def find_device(name: str, ranks: Ranks = ALONE) -> torch.device:
    """Return the device that `name` means; 'auto' is the first of cuda, mps and cpu that is there.

    Each of several ranks has a CUDA device of its own, by its place on its machine.

    Raises:
        ConfigError: the device is not there, the name is none, or several ranks would share the device.
    """
    there = [kind for kind, found in _devices().items() if found]
    if name == "auto":
        name = there[0] if ranks.size == 1 or there[0] != "mps" else "cpu"
    try:
        device = torch.device(name)
        known = device.type in there and (device.index or 0) < max(1, _count(device.type))
    except RuntimeError:  # no device string at all
        known = False
    if not known:
        raise ConfigError(f"device={name}: there is no such device here. Use device=auto or one of {there}.")
    return device if ranks.size == 1 or device.type == "cpu" else _device_of_rank(device)


def _device_of_rank(device: torch.device) -> torch.device:
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type != "cuda" or device.index is not None:
        raise ConfigError(f"device={device}: several ranks cannot share it. Use device=cuda, device=cpu or auto.")
    if place >= torch.cuda.device_count():
        raise ConfigError(
            f"device=cuda: this machine has {torch.cuda.device_count()} CUDA devices, one for each process. Start "
            "fewer (torchrun --nproc-per-node, or nproc), or use device=cpu."
        )
    torch.cuda.set_device(place)
    return torch.device("cuda", place)


def _devices() -> dict[str, bool]:
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def _count(kind: str) -> int:
    return torch.cuda.device_count() if kind == "cuda" else 1
