"""Stepping sharded parameters (DTensors).

What an optimizer does element by element it does on this process's shards, as plain tensors: the operators of
DTensors take several times as long, and some fused kernels have none.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.optim import (
    ASGD,
    LBFGS,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Muon,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
    SparseAdam,
)

from optwrap.errors import ConfigError
from optwrap.optim.parallel.dtensors import is_dtensor
from optwrap.optim.parallel.sharding import is_sharded, on_shards, shard_of, shards_of
from optwrap.optim.step.gathered_step import GatheredStep
from optwrap.optim.step.layout import KnownState, are_same, params_of
from optwrap.optim.step.own_step import is_intercepted

_ELEMENTWISE = (Adadelta, Adagrad, Adam, Adamax, AdamW, ASGD, NAdam, RAdam, RMSprop, Rprop, SGD)


def stepper(optimizer: Optimizer) -> "Optimizer | ShardedStep | GatheredStep":
    """Return what has the `step` for the optimizer: itself, unless its parameters are sharded.

    Raises:
        ConfigError: torch's optimizer cannot step sharded parameters.
    """
    if not is_sharded(params_of(optimizer)):
        return optimizer
    if isinstance(optimizer, Adafactor | LBFGS | SparseAdam):
        name = type(optimizer).__name__
        raise ConfigError(
            f"optim_wrapper.optimizer: torch's {name} does not work on sharded parameters. Choose another "
            "optimizer, such as optim_wrapper=adamw, or keep the parameters whole: strategy=ddp."
        )
    if isinstance(optimizer, Muon):
        return GatheredStep(optimizer)
    # A subclass may look at whole parameters, which the operators of DTensors let it do.
    return ShardedStep(optimizer) if type(optimizer) in _ELEMENTWISE else optimizer


class ShardedStep:
    """Steps an optimizer that works element by element on the shards of its parameters, as plain tensors.

    Its state stays the DTensors that it was, and what a step adds to it becomes DTensors.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._look()

    def step(self, **kwargs: Any) -> None:
        """Step; on the DTensors, by the plain loop, where a closure, a hook or a replaced step may see them."""
        if kwargs or is_intercepted(self._optimizer):
            with unfused(self._optimizer):
                self._optimizer.step(**kwargs)
            return
        if not self._is_current():
            self._look()
        with self._on_shards():
            self._optimizer.step()

    def _look(self) -> None:
        optimizer = self._optimizer
        self._lists = [group["params"] for group in optimizer.param_groups]
        self._params: list[Tensor] = [param for params in self._lists for param in params]
        self._shards = shards_of(self._params)
        self._shard_lists = [shards_of(params) for params in self._lists]
        self._state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for param, shard in zip(self._params, self._shards, strict=True):
            if state := optimizer.state.get(param):
                own = {name: shard_of(value) for name, value in state.items()}
                self._state[shard] = own if is_dtensor(param) else state
        self._new = [param for param in self._params if shard_of(param) not in self._state]
        self._known = KnownState(optimizer)

    def _is_current(self) -> bool:
        """Whether parameters, shards and state are the objects that were looked at."""
        params = params_of(self._optimizer)
        return (
            are_same(params, self._params)
            and are_same(shards_of(params), self._shards)
            and self._known.is_current()
        )

    @contextlib.contextmanager
    def _on_shards(self) -> Iterator[None]:
        """Put the shards, with their gradients and state, in the place of the optimizer's parameters."""
        optimizer = self._optimizer
        lists, state = [group["params"] for group in optimizer.param_groups], optimizer.state
        with on_shards(self._params):
            for group, shards in zip(optimizer.param_groups, self._shard_lists, strict=True):
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
        self._known = KnownState(self._optimizer)


@contextlib.contextmanager
def unfused(optimizer: Optimizer) -> Iterator[None]:
    """Let the optimizer step by its plain loop inside."""
    groups = [group for group in optimizer.param_groups if group.get("fused")]
    for group in groups:
        group["fused"] = False
    try:
        yield
    finally:
        for group in groups:
            group["fused"] = True


def _placed_as(param: Tensor, shard: Any) -> Any:
    """Return the DTensor of which `shard` is this process's, where it is laid out as the parameter's."""
    if not is_dtensor(param) or not isinstance(shard, Tensor) or shard.shape != shard_of(param).shape:
        return shard
    from torch.distributed.tensor import DTensor  # loaded by now, since the parameter is one

    return DTensor.from_local(
        shard, param.device_mesh, param.placements, run_check=False, shape=param.shape, stride=param.stride()
    )
