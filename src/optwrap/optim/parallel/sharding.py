"""Sharded tensors (DTensors, as FSDP2's `fully_shard` makes them): this process's shards, and sums over all."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from optwrap.optim.parallel.dtensors import is_dtensor, may_have_dtensors

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

Spread = dict[tuple["DeviceMesh | None", tuple[int, ...]], list[int]]


def is_sharded(tensors: Sequence[Tensor]) -> bool:
    """Whether any of `tensors` is spread over processes."""
    return may_have_dtensors() and any(map(is_dtensor, tensors))


def shard_of(tensor: Any) -> Any:
    """Return what this process holds of a tensor: of a plain one, or of anything else, itself."""
    # `to_local` makes a new view, which takes 5 us and has another identity each time.
    return tensor._local_tensor if is_dtensor(tensor) else tensor


def shards_of(tensors: Sequence[Any]) -> list[Any]:
    """Return what this process holds of each tensor."""
    return [*map(shard_of, tensors)] if may_have_dtensors() else list(tensors)


def spread_alike(param: Tensor, grad: Tensor | None) -> bool:
    """Whether each process holds the same part of a parameter and of its gradient, if there is one."""
    if not is_dtensor(param) or not is_dtensor(grad):
        return True
    return grad._spec is param._spec or grad.placements == param.placements  # of FSDP2 they are one object


@contextlib.contextmanager
def on_shards(params: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Give this process's shards of `params`, their gradients' shards as `grad`, to work on in place."""
    shards = shards_of(params)
    sharded = [(param, shard) for param, shard in zip(params, shards, strict=True) if shard is not param]
    for param, shard in sharded:
        if not spread_alike(param, param.grad):  # tensor parallelism may leave a sum that was not taken yet
            placements = cast("DTensor", param).placements
            param.grad = cast("DTensor", param.grad).redistribute(placements=placements)
        shard.grad = shard_of(param.grad)
    try:
        yield shards
    finally:
        for _, shard in sharded:
            shard.grad = None  # it would live on after zero_grad


def spread(tensors: Sequence[Tensor]) -> Spread:
    """Return the positions of `tensors` by the mesh, and its dimensions, over whose processes they are sharded.

    Over the other dimensions of a mesh they are replicated, as plain ones are.

    Raises:
        ValueError: a tensor is a sum that has not been taken yet (`Partial`).
    """
    found: Spread = {}
    for i, tensor in enumerate(tensors):
        where: tuple[DeviceMesh | None, tuple[int, ...]] = (None, ())
        if is_dtensor(tensor):
            if any(placement.is_partial() for placement in tensor.placements):
                raise ValueError(f"A gradient is {tensor.placements}: reduce it over its processes first.")
            dims = (dim for dim, placement in enumerate(tensor.placements) if not placement.is_replicate())
            where = (tensor.device_mesh, tuple(dims))
        found.setdefault(where, []).append(i)
    return found


def all_reduce_over(value: Tensor, mesh: "DeviceMesh | None", dims: Sequence[int], op: Any) -> Tensor:
    """Reduce a small tensor over dimensions of a mesh; returns a new one, on the device of `value`."""
    if mesh is None or not dims:
        return value
    reduced = value.to(
        mesh.device_type, copy=True
    )  # offloaded parameters are on the CPU, their processes' is CUDA
    for dim in dims:
        dist.all_reduce(reduced, op, mesh.get_group(dim))
    return reduced.to(value.device)


def agree_on_any(flag: Tensor, spread: Spread) -> None:
    """Set `flag` to its largest value on any process that holds a part of the tensors of `spread`."""
    for mesh, dims in spread:
        flag.copy_(all_reduce_over(flag, mesh, dims, dist.ReduceOp.MAX))


def join_norms(norm: Tensor, mesh: "DeviceMesh | None", dims: Sequence[int], norm_type: float) -> Tensor:
    """Return the norm of what all processes hold, `norm` being that of this one: one reduction a dimension."""
    if not dims:
        return norm
    if norm_type != math.inf:
        powers = all_reduce_over(norm**norm_type, mesh, dims, dist.ReduceOp.SUM)
        return powers ** (1 / norm_type)
    # What a maximum makes of NaN depends on the backend.
    is_nan = norm.isnan()
    both = torch.stack([norm.masked_fill(is_nan, 0.0), is_nan.to(norm.dtype)])
    largest, any_nan = all_reduce_over(both, mesh, dims, dist.ReduceOp.MAX)
    return largest.masked_fill(any_nan > 0, math.nan)
