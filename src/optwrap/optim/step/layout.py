"""How parameters, gradients and optimizer state lie in memory, and whether a fused kernel may walk them."""

import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter, call, is_
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from optwrap.optim.parallel.sharding import Spread, is_sharded, shard_of, shards_of, spread, spread_alike

PLAIN_TENSORS = (Tensor, nn.Parameter)  # not what FSDP1 flattens; of a DTensor its shard
_dtype = attrgetter("dtype")


def lie_alike(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order in memory."""
    strides = zip(first.shape, first.stride(), second.stride(), strict=True)
    return all(size == 1 or one == other for size, one, other in strides)


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one piece of memory, in any order of dimensions."""
    return tensor.layout == torch.strided and lie_alike(tensor, torch.empty_like(tensor, device="meta"))


def align_strides(optimizer: Optimizer) -> None:
    """Lay state out as its parameters are: fused CPU kernels walk both as flat memory."""
    for param, state in optimizer.state.items():
        for name, value in state.items() if isinstance(param, Tensor) else ():
            if not isinstance(value, Tensor) or value.shape != param.shape:
                continue
            if shard_of(value).stride() != shard_of(param).stride():
                state[name] = torch.empty_like(param, dtype=value.dtype).copy_(value)


@dataclass(frozen=True)
class Layout:
    """How parameters and gradients lay when everything was looked at, to compare with before each step."""

    groups: list[dict[str, Any]]
    members: list[Tensor]  # every parameter of the groups
    traits: list[tuple[Any, ...]]
    params: list[Tensor]  # those that had a gradient
    absent: list[Tensor]  # parameters that had no gradient
    addresses: list[int]  # of the parameters
    shapes: tuple[list[Any], list[Any]]
    strides: list[tuple[int, ...]]  # of the gradients
    dtypes: list[torch.dtype]
    kinds: tuple[frozenset[torch.device], frozenset[torch.dtype]]
    spread: Spread | None  # of the gradients, where any parameter is sharded

    @classmethod
    def of(cls, optimizer: Optimizer, params: Sequence[Tensor]) -> "Layout":
        """Remember how the parameters that have a gradient lie now, and those that have none."""
        present = [param for param in params if param.grad is not None]
        return cls(
            groups=list(optimizer.param_groups),
            members=params_of(optimizer),
            traits=[_traits(group) for group in optimizer.param_groups],
            params=present,
            absent=[param for param in params if param.grad is None],
            addresses=[shard_of(param).data_ptr() for param in present],
            shapes=_shapes([shard_of(param) for param in present]),
            strides=[shard_of(param.grad).stride() for param in present],
            dtypes=[param.dtype for param in present],
            kinds=(frozenset(p.device for p in present), frozenset(p.dtype for p in present)),
            spread=spread(present) if is_sharded(params) else None,
        )

    def is_of(self, optimizer: Optimizer) -> bool:
        """Whether the param groups are still those that were looked at."""
        groups = optimizer.param_groups
        return (
            are_same(groups, self.groups)
            and [_traits(group) for group in groups] == self.traits
            and are_same(params_of(optimizer), self.members)
        )

    def grads(self) -> list[Tensor] | None:
        """Return the gradients (or shards) if everything lies as it did. Plain maps: this runs in every step."""
        params, grads = self.params, cast(list[Any], [param.grad for param in self.params])
        if self.spread is not None:
            params, grads = shards_of(params), shards_of(grads)
        try:
            same = (
                list(map(Tensor.stride, grads)) == self.strides
                and list(map(_dtype, grads)) == self.dtypes
                and list(map(Tensor.data_ptr, params)) == self.addresses
                and _shapes(params) == self.shapes
            )
        except (TypeError, RuntimeError):  # a gradient is None now, or sparse
            return None
        if not same or (self.absent and any(param.grad is not None for param in self.absent)):
            return None
        return grads


def _traits(group: Mapping[str, Any]) -> tuple[Any, ...]:
    get = group.get
    off = not get("momentum"), not get("amsgrad"), not get("foreach"), not get("differentiable")
    return len(group["params"]), group["fused"], off


def _shapes(tensors: Sequence[Tensor]) -> tuple[list[Any], list[Any]]:
    """Return what tells at the same address whether tensors are still laid out as they were."""
    return list(map(Tensor.stride, tensors)), list(map(Tensor.numel, tensors))


def are_same(now: Collection[Any], before: Collection[Any]) -> bool:
    """Whether two collections hold the same objects, in order."""
    return len(now) == len(before) and all(map(is_, now, before))


def params_of(optimizer: Optimizer) -> list[Tensor]:
    """Return every parameter of the optimizer, in order."""
    return [param for group in optimizer.param_groups for param in group["params"]]


class KnownState:
    """The tensors that make the state of an optimizer which has stepped; it keeps none of them in memory."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._keys = list(optimizer.state)
        self._is_param = [isinstance(key, Tensor) for key in self._keys]  # other keys are the user's own notes
        self._names = self._names_now()
        tensors = self.tensors()
        self._references = list(map(weakref.ref, tensors))
        self._shapes = _shapes(tensors)

    def tensors(self) -> list[Tensor]:
        """Return all tensors of the state, in order."""
        states = compress(self._optimizer.state.values(), self._is_param)
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def numbers(self) -> dict[tuple[Tensor, str], int]:
        """Return where in `tensors` each parameter's state of each name stands."""
        states = compress(self._optimizer.state.items(), self._is_param)
        keys = [(param, name) for param, state in states for name in state if isinstance(state[name], Tensor)]
        return {key: number for number, key in enumerate(keys)}

    def is_current(self) -> bool:
        """Whether each parameter's state has the same tensors under the same names, laid out as they were."""
        state = self._optimizer.state
        if not are_same(state, self._keys):
            return False
        tensors = self.tensors()
        return (
            are_same(tensors, list(map(call, self._references)))
            and self._names_now() == self._names
            and _shapes(tensors) == self._shapes
        )

    def _names_now(self) -> list[tuple[str, ...]]:
        return list(map(tuple, compress(self._optimizer.state.values(), self._is_param)))


def unfit(params: Sequence[Tensor]) -> str | None:
    """Return why a fused kernel may not touch the parameters and gradients as they lie, or None."""
    if len(set(map(id, params))) < len(params):
        return "a parameter is there twice"
    for whole in params:
        if whole.grad is None:
            continue
        param, grad = shard_of(whole), shard_of(whole.grad)
        if not spread_alike(whole, whole.grad):
            return "a gradient is sharded otherwise than its parameter"
        if type(param) not in PLAIN_TENSORS or not is_dense(param) or not param.is_floating_point():
            return "a parameter is no dense tensor of real numbers"
        if grad.layout != torch.strided:
            return "a gradient is sparse"
        if grad.dtype != param.dtype or grad.device != param.device:
            return "a gradient has another dtype or device than its parameter"
        if not lie_alike(grad, param):
            return "a gradient and its parameter lie differently in memory"
    return None


def prepare(optimizer: Optimizer, group: Mapping[str, Any]) -> str | None:
    """Make the state of a group ready for the fused kernel; return why it cannot be, or None."""
    # Groups made for one optimizer and given to another keep the options of both.
    has_momentum = isinstance(optimizer, SGD) and bool(group["momentum"])
    for param in group["params"]:
        if param.grad is None:
            continue
        state = optimizer.state[param] if has_momentum or param in optimizer.state else {}
        if has_momentum and state.get("momentum_buffer") is None:
            if group["dampening"]:  # the first gradient enters the buffer undamped
                return "a parameter with dampened momentum has its first gradient"
            # As the kernel makes it, a skipped first step would leave it without content.
            state["momentum_buffer"] = torch.zeros_like(param)
        for name, value in state.items():
            if name == "step" and isinstance(value, Tensor):
                state[name] = value.to(param.device, torch.float32)
            elif isinstance(value, Tensor) and value.shape != param.shape:
                return "optimizer state has another shape than its parameter"  # the plain loop says so
            elif isinstance(value, Tensor) and (value.dtype != param.dtype or value.device != param.device):
                return "optimizer state has another dtype or device than its parameter"
    return None
