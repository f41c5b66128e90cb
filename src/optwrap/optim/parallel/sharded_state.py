"""State for any number of processes: sharded tensors (DTensors) made whole, and whole ones sharded again."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from optwrap.optim.parallel.dtensors import is_dtensor


def full(state: Any, keep: bool = True) -> Any:
    """Return a nest of dicts and lists with every tensor whole: sharded ones on the CPU, plain ones as they are.

    All processes call it, each with its own shards, and gather one tensor at a time. Those that do not `keep`
    what was gathered get None in place of every sharded tensor.
    """
    if isinstance(state, Mapping):
        return {name: full(value, keep) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(full(value, keep) for value in state)
    if is_dtensor(state):
        whole = state.full_tensor()
        return whole.detach().cpu() if keep else None
    return state.detach() if isinstance(state, Tensor) else state


def placed_as(param: Tensor, value: Any) -> Any:
    """Return a whole tensor sharded as `param` is, if it is and has its shape: each process keeps its shard."""
    if not is_dtensor(param) or not isinstance(value, Tensor) or is_dtensor(value):
        return value
    if value.shape != param.shape:
        return value
    from torch.distributed.tensor import distribute_tensor  # loaded by now, since the parameter is one of its

    return distribute_tensor(value, param.device_mesh, param.placements, src_data_rank=None)


def place_state(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return torch's state dict of `optimizer`, with whole tensors sharded as the parameters are."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    keys = [key for group in state_dict["param_groups"] for key in group["params"]]
    state = dict(state_dict["state"])
    for key, param in zip(keys, params, strict=False):  # another number of them is the optimizer's to refuse
        if key in state:
            state[key] = {name: placed_as(param, value) for name, value in state[key].items()}
    return {**state_dict, "state": state}
