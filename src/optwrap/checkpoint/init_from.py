"""A new run from the weights of another, by name, as far as they fit."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from optwrap.checkpoint.files import Checkpoints, load
from optwrap.errors import ConfigError
from optwrap.optim.named_state import evaluated_weights

logger = logging.getLogger(__name__)

_WRAPPED = "module."  # what DDP puts before the names of a plain state dict


def init_weights(model: nn.Module, source: str) -> None:
    """Load into the plain `model` what `source` has of its weights and buffers, and say what it has not.

    Args:
        source: a run's folder (its newest checkpoint that is whole), a checkpoint, or a state dict of torch.save.
            Of a run that evaluates averages of its weights, those.

    Raises:
        ConfigError: there is nothing to read, or not one tensor fits.
    """
    saved = _weights(Path(source).expanduser(), source)
    own = model.state_dict()
    fits = {name: value for name, value in saved.items() if _shape(own.get(name)) == value.shape}
    others = [f"{name} {tuple(saved[name].shape)}" for name in saved if name in own and name not in fits]
    missing, left = [name for name in own if name not in saved], [name for name in saved if name not in own]
    lists = {"other shapes": others, "not there": missing, "left over": left}
    said = "; ".join(f"{what}: {_listed(names)}" for what, names in lists.items() if names)
    if not fits:
        raise ConfigError(f"init_from={source}: none of its {len(saved)} tensors fits the model. {said}.")
    model.load_state_dict(fits, strict=False)
    text = "init_from=%s: %d of the model's %d tensors.%s"
    logger.info(text, source, len(fits), len(own), f" {said[0].upper()}{said[1:]}." if said else "")


def _weights(path: Path, source: str) -> dict[str, Tensor]:
    cpu = torch.device("cpu")
    if not path.exists():
        raise ConfigError(
            f"init_from={source}: there is no such file or folder. Give a run's folder or a checkpoint."
        )
    try:
        state = load(path, cpu) if path.is_file() else Checkpoints.of_run(path).find("last", cpu)[1]
    except ConfigError as error:
        raise ConfigError(f"init_from={source}: {error}") from error
    weights: Mapping[str, Any] = state
    if isinstance(state.get("model"), Mapping) and isinstance(state.get("optim_wrapper"), Mapping):
        weights = {**state["model"], **evaluated_weights(state["optim_wrapper"])}
    found = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    if found and all(name.startswith(_WRAPPED) for name in found):
        found = {name.removeprefix(_WRAPPED): value for name, value in found.items()}
    return found


def _shape(tensor: Any) -> torch.Size | None:
    return tensor.shape if isinstance(tensor, Tensor) else None


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
