"""Stepping sharded parameters (DTensors): on the shards, or a whole matrix at a time.

What an optimizer does element by element it does on this process's shards, as plain tensors: the operators of
DTensors take several times as long, and some fused kernels have none.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import LBFGS, Adafactor, Optimizer, SparseAdam

from optwrap.errors import ConfigError
from optwrap.optim.sharding import is_sharded, on_shards, shard_of, shards_of


def check_shards(optimizer: Optimizer) -> None:
    """Raise ConfigError where torch's optimizer cannot step the sharded parameters that it has."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    if isinstance(optimizer, Adafactor | LBFGS | SparseAdam) and is_sharded(params):
        name = type(optimizer).__name__
        raise ConfigError(
            f"optim_wrapper.optimizer: torch's {name} does not work on sharded parameters. Choose another "
            "optimizer, such as optim_wrapper=adamw, or keep the parameters whole: strategy=ddp."
        )


class ShardedStep:
    """Lets an optimizer that works element by element step on the shards of its parameters, as plain tensors.

    Its state stays the DTensors that it was, and what a step adds to it becomes DTensors.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._params: list[Tensor] = [param for group in optimizer.param_groups for param in group["params"]]
        self._lists = [shards_of(group["params"]) for group in optimizer.param_groups]
        self._state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for param in self._params:
            if state := optimizer.state.get(param):
                own = {name: shard_of(value) for name, value in state.items()}
                self._state[shard_of(param)] = own if isinstance(param, DTensor) else state
        self._new = [param for param in self._params if shard_of(param) not in self._state]
        self._seen = _values(optimizer)

    def is_current(self) -> bool:
        """Whether the optimizer's state is still what it was."""
        now = _values(self._optimizer)
        return len(now) == len(self._seen) and all(map(is_, now, self._seen))

    @contextlib.contextmanager
    def on_shards(self) -> Iterator[None]:
        """Put the shards, with their gradients and state, in the place of the optimizer's parameters."""
        optimizer = self._optimizer
        lists, state = [group["params"] for group in optimizer.param_groups], optimizer.state
        with on_shards(self._params):
            for group, shards in zip(optimizer.param_groups, self._lists, strict=True):
                group["params"] = shards
            optimizer.state = self._state
            try:
                yield
            finally:
                for group, params in zip(optimizer.param_groups, lists, strict=True):
                    group["params"] = params
                optimizer.state = state
                self._take_over_new()

    def _take_over_new(self) -> None:
        created = [param for param in self._new if self._state.get(shard_of(param))]
        if not created:
            return
        for param in created:
            state = self._state[shard_of(param)]
            self._optimizer.state[param] = {name: _placed_as(param, value) for name, value in state.items()}
        self._new = [param for param in self._new if shard_of(param) not in self._state]
        self._seen = _values(self._optimizer)


def _values(optimizer: Optimizer) -> list[Any]:
    return [value for state in optimizer.state.values() for value in state.values()]


def _placed_as(param: Tensor, shard: Any) -> Any:
    """Return the DTensor of which `shard` is this process's, where it is laid out as the parameter's."""
    if not isinstance(param, DTensor) or not isinstance(shard, Tensor) or shard.shape != shard_of(param).shape:
        return shard
    return DTensor.from_local(
        shard, param.device_mesh, param.placements, run_check=False, shape=param.shape, stride=param.stride()
    )


class GatheredStep:
    """Lets an optimizer that looks at whole matrices (Muon) step sharded ones.

    Gradient and state are gathered one parameter at a time, and every process works out the whole update. By the
    operators of DTensors that took 11 to 16 reductions a matrix, and sums of bfloat16 shards lose digits.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Step every parameter that has a gradient."""
        if closure is not None:
            with torch.enable_grad():
                closure()
        groups = self._optimizer.param_groups
        lists = [group["params"] for group in groups]
        try:
            for group in groups:
                group["params"] = []
            for group, params in zip(groups, lists, strict=True):
                for param in params:
                    group["params"] = [param]
                    if param.grad is not None:
                        self._step_one(param)
                group["params"] = []
        finally:
            for group, params in zip(groups, lists, strict=True):
                group["params"] = params

    @torch.no_grad()
    def _step_one(self, param: Tensor) -> None:
        shard, state = param.grad, self._optimizer.state[param]
        param.grad = _whole(shard)
        state.update({name: _whole(value) for name, value in state.items()})
        try:
            self._optimizer.step()
        finally:
            param.grad = shard
            state.update({name: _sharded_as(param, value) for name, value in state.items()})


def _whole(tensor: Any) -> Any:
    if not isinstance(tensor, DTensor):
        return tensor
    return tensor.redistribute(placements=[Replicate()] * tensor.device_mesh.ndim)


def _sharded_as(param: Tensor, value: Any) -> Any:
    if not isinstance(value, DTensor) or not isinstance(param, DTensor) or value.shape != param.shape:
        return value
    return value.redistribute(placements=param.placements)
