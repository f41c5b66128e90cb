"""What stands before a run: its seed, its device and where the model goes."""

import os
import random

import numpy as np
import torch
from torch import nn

from optwrap.errors import ConfigError


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and torch; `deterministic` also forbids algorithms whose results vary.

    Raises:
        ConfigError: the seed is negative, or does not fit 63 bits.
    """
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed={seed}: it must lie between 0 and 2**63 - 1.")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def find_device(name: str) -> torch.device:
    """Return the device that `name` means; 'auto' is the first of cuda, mps and cpu that is there.

    Raises:
        ConfigError: the device is not there, or the name is none.
    """
    there = [kind for kind, found in _devices().items() if found]
    if name == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(name)
        known = device.type in there and (device.index or 0) < max(1, _count(device.type))
    except RuntimeError:  # no device string at all
        known = False
    if not known:
        raise ConfigError(f"device={name}: there is no such device here. Use device=auto or one of {there}.")
    return device


def place(model: nn.Module, device: torch.device, channels_last: bool, compile_model: bool) -> nn.Module:
    """Move `model` to the device and, where asked for, to channels_last memory and to compiled code."""
    model = model.to(device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if compile_model:
        model.compile()  # in place: names of parameters stay
    return model


def _devices() -> dict[str, bool]:
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def _count(kind: str) -> int:
    return torch.cuda.device_count() if kind == "cuda" else 1
