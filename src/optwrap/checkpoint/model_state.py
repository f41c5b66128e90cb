"""The weights of a model by their plain names, whole, however the ranks of a run share them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim.named_state import evaluated_weights, recomputes_batch_norm
from optwrap.optim.parallel.dtensors import is_dtensor
from optwrap.optim.parallel.sync import parallel_modules

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def full_state(model: nn.Module) -> dict[str, Any]:
    """Return the state dict of the plain model; of several ranks all call it, and rank 0 alone gets it."""
    if not parallel_modules(model):
        return model.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def local_state(model: nn.Module) -> dict[str, Any]:
    """Return the state dict by plain names, with what this rank holds; a shard knows the shape of the whole."""
    if not parallel_modules(model):
        return model.state_dict()
    from torch.distributed.checkpoint.state_dict import get_model_state_dict  # loading it takes a while

    return get_model_state_dict(model)


def sharded_params(model: nn.Module) -> "dict[str, DTensor]":
    """Return the parameters that the ranks have in shards, by plain names."""
    return {name: each for name, each in local_state(model).items() if is_dtensor(each)}


def load_full_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load what `full_state` gave: each of several ranks has all of it and keeps its part, or has that alone."""
    if not parallel_modules(model):
        model.load_state_dict(state)
    else:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        # A copy: torch renames the keys of the dict that it is given.
        whole = not any(map(is_dtensor, state.values()))
        set_model_state_dict(model, dict(state), options=StateDictOptions(full_state_dict=whole))


def load_model(model: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Load the model's weights; where they do not fit, change nothing.

    Raises:
        ConfigError: the names or shapes are not those of `model`; the message lists them.
    """
    saved = state.get("model")
    if not isinstance(saved, Mapping):
        raise ConfigError(f"{path}: the checkpoint has no weights of a model.")
    own = local_state(model)
    problems = [
        *_listed("The model also has", [name for name in own if name not in saved]),
        *_listed("The checkpoint also has", [str(name) for name in saved if name not in own]),
        *_listed("Other shapes", [_shapes(name, saved[name], own[name]) for name in own if name in saved]),
    ]
    if problems:
        raise ConfigError("\n".join([f"{path}: the checkpoint does not fit the model.", *problems]))
    load_full_state(model, saved)


def load_evaluated(model: nn.Module, state: Mapping[str, Any]) -> bool:
    """Put what a run evaluates (averages of weights) in place of the model's weights, where that is another.

    Return whether its running statistics are then to be recomputed.
    """
    named = state["optim_wrapper"]
    evaluated = evaluated_weights(named)
    if evaluated:
        load_full_state(model, {**state["model"], **evaluated})
    return recomputes_batch_norm(named)


def _shapes(name: str, saved: Any, own: Any) -> str:
    """Return what differs between a saved tensor and the model's; nothing where they fit."""
    if not isinstance(own, torch.Tensor):  # a module's extra state
        return ""
    if not isinstance(saved, torch.Tensor):
        return f"{name} (saved {type(saved).__name__}, here {tuple(own.shape)})"
    same = saved.shape == own.shape
    return "" if same else f"{name} (saved {tuple(saved.shape)}, here {tuple(own.shape)})"


def _listed(what: str, names: list[str], most: int = 8) -> list[str]:
    names = [name for name in names if name]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return [f"{what}: {', '.join(names[:most])}{more}."] if names else []
