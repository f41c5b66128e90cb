"""Save a run so that it is there whole or not at all, and load it without running code from it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper, OptimWrapperDict, Schedule, ScheduleDict, named_state_dict


def save_run(
    path: Path,
    model: nn.Module,
    optim_wrapper: OptimWrapper | OptimWrapperDict,
    schedule: Schedule | ScheduleDict,
    micro_batches: int,
) -> None:
    """Save where a run stands after `micro_batches`; optimizer state is stored by parameter name."""
    state = {
        "model": model.state_dict(),
        "optim_wrapper": named_state_dict(optim_wrapper),
        "schedule": schedule.state_dict(),
        "micro_batches": micro_batches,
    }
    save(path, state)


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to a temporary file beside `path`, flush it to disk and rename it."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Return what `save` wrote, its tensors on `device`.

    Raises:
        ConfigError: there is no such file, it is damaged, or it holds more than tensors and plain values.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no checkpoint. A run writes it at its first evaluation.")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch.load documents none; damaged files raise a dozen kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{path}: this is no readable checkpoint ({reason}).") from error


def load_model(model: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Load the model's weights.

    Raises:
        ConfigError: the names or shapes are not those of `model`.
    """
    try:
        model.load_state_dict(state["model"])
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"{path}: the checkpoint does not fit the model. {error}") from error
