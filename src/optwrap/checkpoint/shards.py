"""Splits a run's state into its tensors, which go into shards of a file each rank, and the rest; and back."""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.tensor import DTensor

from optwrap.checkpoint.shard_files import Index, Reader
from optwrap.checkpoint.state import each_tensor

SHARDED = ("model", "optim_wrapper")
"""The parts of a run's state whose tensors go into shards."""

_FLAT = {"flatten_state_dict": False, "flatten_sharded_tensors": False}

# It warns where there is one process alone, from a thread too, where no context could keep it quiet.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


def take_tensors(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a copy of a run's state with tensors of its sharded parts on the meta device, and them by name.

    >>> rest, tensors = take_tensors({"model": {"weight": torch.ones(2)}, "format": 1})
    >>> rest["model"]["weight"].is_meta, tensors
    (True, {'model/weight': tensor([1., 1.])})
    """
    tensors: dict[str, Tensor] = {}

    def take(name: str, tensor: Tensor) -> Tensor:
        tensors[name] = tensor.detach()
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    rest = {part: each_tensor(state[part], part, take) if part in SHARDED else state[part] for part in state}
    return copy.deepcopy(rest), tensors


def put_tensors(
    state: Mapping[str, Any], index: Index, folder: Path, device: torch.device, like: Mapping[str, DTensor]
) -> dict[str, Any]:
    """Return what `take_tensors` was given, its tensors read from `folder`: whole and on `device`.

    Where a tensor is one of a parameter in `like`, and of its shape, this rank reads its own part alone.

    Raises:
        ValueError: a shard is missing or damaged, or the index is none.
    """
    tensors: dict[str, Tensor] = {}

    def put(name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            raise ValueError(f"{name} is no tensor of a shard")
        params = [like[part] for part in name.split("/") if part in like]
        if params and params[-1].shape == tensor.shape:
            tensors[name] = torch.empty_like(params[-1], dtype=tensor.dtype, requires_grad=False)
        else:
            tensors[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        return tensors[name]

    filled = {part: each_tensor(state[part], part, put) if part in SHARDED else state[part] for part in state}
    reader = Reader(folder, tensors, index)
    try:
        dcp.load(tensors, storage_reader=reader, planner=dcp.DefaultLoadPlanner(**_FLAT), no_dist=True)
    except dcp.CheckpointException as error:
        raise ValueError(str(cause(error)) or type(cause(error)).__name__) from error
    return filled


def planner() -> dcp.DefaultSavePlanner:
    """Return what decides that a tensor which every rank holds is written by rank 0.

    Buffers such as the statistics of batch norm differ between ranks; everywhere else, rank 0's count too.
    """
    return dcp.DefaultSavePlanner(**_FLAT, dedup_save_to_lowest_rank=True)


def cause(error: BaseException) -> BaseException:
    """Return what a rank raised first, of an error that torch.distributed.checkpoint has wrapped."""
    if isinstance(error, dcp.CheckpointException):
        return next(iter(error.failures.values()))[0]
    return error
