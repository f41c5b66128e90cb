"""The weights of a model by their plain names, whole, however the ranks of a run share them."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.tensor import DTensor

from optwrap.optim.parallel.sync import parallel_modules


def full_state(model: nn.Module) -> dict[str, Any]:
    """Return the state dict of the plain model; of several ranks all call it, and rank 0 alone gets it."""
    if not parallel_modules(model):
        return model.state_dict()
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def local_state(model: nn.Module) -> dict[str, Any]:
    """Return the state dict by plain names, with what this rank holds; a shard knows the shape of the whole."""
    return get_model_state_dict(model) if parallel_modules(model) else model.state_dict()


def sharded_params(model: nn.Module) -> dict[str, DTensor]:
    """Return the parameters that the ranks have in shards, by plain names."""
    return {name: each for name, each in local_state(model).items() if isinstance(each, DTensor)}


def load_full_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load what `full_state` gave: each of several ranks has all of it and keeps its part, or has that alone."""
    if not parallel_modules(model):
        model.load_state_dict(state)
    else:
        # A copy: torch renames the keys of the dict that it is given.
        whole = not any(isinstance(value, DTensor) for value in state.values())
        set_model_state_dict(model, dict(state), options=StateDictOptions(full_state_dict=whole))
