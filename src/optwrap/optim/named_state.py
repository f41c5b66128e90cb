"""Optimizer state by parameter name, so that a run resumes under another `paramwise_cfg`."""

import copy
import inspect
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from optwrap.optim.averaging.switched import switches
from optwrap.optim.constructors.hybrid import HybridOptimizer, optimizers_of
from optwrap.optim.matrices.on_matrices import class_of
from optwrap.optim.step.layout import params_of
from optwrap.optim.step.loading import NOT_OPTIONS
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict

logger = logging.getLogger(__name__)

_OF_EACH_PARAM = {"accumulation": "grads", "averaging": "averages"}
"""Where a wrapper's state dict has a list with something for each parameter."""


@dataclass(frozen=True)
class Unmatched:
    """Names that a checkpoint and a wrapper do not share; under another class of optimizer a name is both.

    `new` ones start without state; that of `left_over` ones is dropped.
    """

    new: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.new or self.left_over)


def named_state_dict(optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, Any]:
    """Return the wrapper's state with the optimizer's keyed by parameter name.

    `state` holds each parameter's tensors, `options` its hyperparameters, `optimizers` the class of optimizer of
    both; `rest` is what the wrapper's own state dict has beside the optimizer's (loss scaler, accumulation,
    averages, what a wrapper of one's own adds), and what an optimizer that switches weights would evaluate.
    An OptimWrapperDict is nested by name.

    Raises:
        ValueError: a param group has no `param_names`: the wrapper was not built by a constructor.
    """
    if isinstance(optim_wrapper, OptimWrapperDict):
        return {name: named_state_dict(wrapper) for name, wrapper in optim_wrapper.items()}
    state: dict[str, Any] = {"state": {}, "options": {}, "optimizers": {}}
    for optimizer in optimizers_of(optim_wrapper.optimizer):
        for name, param, group in _named(optimizer):
            if param in optimizer.state:
                state["state"][name] = dict(optimizer.state[param])
            # Less the classes that some optimizers keep there, of which a checkpoint holds none.
            state["options"][name] = {
                key: value
                for key, value in group.items()
                if key not in NOT_OPTIONS and not isinstance(value, type)
            }
            state["optimizers"][name] = class_of(optimizer).__name__
    own = optim_wrapper.state_dict()
    of_optimizer = _keys_of_optimizer(optim_wrapper)
    state["rest"] = {key: value for key, value in own.items() if key not in of_optimizer}
    names = [name for optimizer in optimizers_of(optim_wrapper.optimizer) for name, _, _ in _named(optimizer)]
    for part, key in _OF_EACH_PARAM.items():
        if own.get(part, {}).get(key):
            by_name = dict(zip(names, own[part][key], strict=True))
            state["rest"][part] = {**own[part], key: by_name}
    if switches(optim_wrapper.optimizer):
        with optim_wrapper.evaluation_weights():
            params = params_of(optim_wrapper.optimizer)
            weights = {name: each.detach().clone() for name, each in zip(names, params, strict=True)}
        state["rest"]["evaluated"] = weights
    return state


def evaluated_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return by name what is evaluated in place of the model's own weights and buffers, from named state.

    Names are those in the whole model. Empty where the model's own are evaluated.
    """
    parts = {"": state} if "options" in state else {f"{name}.": part for name, part in state.items()}
    found: dict[str, Tensor] = {}
    for prefix, part in parts.items():
        averaging = part["rest"].get("averaging", {})
        weights = {**part["rest"].get("evaluated", {}), **(averaging.get("averages") or {})}
        # A wrapper of a parameter alone has no name behind its own.
        found |= {f"{prefix}{name}".removesuffix("."): each for name, each in weights.items()}
        found |= averaging.get("buffers", {})
    return found


def recomputes_batch_norm(state: Mapping[str, Any]) -> bool:
    """Whether running statistics are to be those of the weights that are evaluated, from named state."""
    if "options" not in state:
        return any(recomputes_batch_norm(each) for each in state.values())
    averaging = state["rest"].get("averaging", {})
    return "evaluated" in state["rest"] or (
        averaging.get("batch_norm") == "recompute" and bool(averaging["averages"])
    )


def load_named_state_dict(optim_wrapper: OptimWrapper | OptimWrapperDict, state: Mapping[str, Any]) -> Unmatched:
    """Load what `named_state_dict` returned, by name, into a wrapper whose param groups may be other ones.

    Hyperparameters stay those of the wrapper (`load_named_options` takes the checkpoint's). Names without a
    counterpart are returned and logged, not guessed. The argument is not modified.

    Raises:
        KeyError: the wrappers of an OptimWrapperDict are others.
    """
    if isinstance(optim_wrapper, OptimWrapperDict):
        if set(state) != set(optim_wrapper):
            raise KeyError(
                f"The checkpoint has {_wrappers(state)}, this run the wrappers {sorted(optim_wrapper)}."
            )
        return _joined({name: load_named_state_dict(each, state[name]) for name, each in optim_wrapper.items()})
    if "options" not in state:
        raise KeyError(f"The checkpoint has {_wrappers(state)}, this run a single one.")
    own = optim_wrapper.state_dict()
    # What this wrapper has not, as a loss scaler, is left: a run may resume without AMP.
    rest = {key: value for key, value in state["rest"].items() if key in own or key in _OF_EACH_PARAM}
    of_optimizer = _keys_of_optimizer(optim_wrapper)
    loaded = {key: own[key] for key in own if key in of_optimizer}
    kinds: dict[str, str] = {}
    for target, optimizer in zip(_targets(loaded), optimizers_of(optim_wrapper.optimizer), strict=True):
        kinds |= dict.fromkeys(_put_shared(target, optimizer, state), class_of(optimizer).__name__)
    for part, key in _OF_EACH_PARAM.items():
        if part in rest and rest[part][key]:
            rest[part] = {**rest[part], key: [rest[part][key].get(name) for name in kinds]}
    optim_wrapper.load_state_dict(loaded | rest)
    unmatched = Unmatched(
        tuple(name for name, kind in kinds.items() if state["optimizers"].get(name) != kind),
        tuple(name for name, kind in state["optimizers"].items() if kinds.get(name) != kind),
    )
    if unmatched:
        logger.warning("Optimizer state: new parameters %s, left over %s.", unmatched.new, unmatched.left_over)
    return unmatched


def _put_shared(target: dict[str, Any], optimizer: Optimizer, state: Mapping[str, Any]) -> list[str]:
    """Put what the checkpoint has of the optimizer's parameters into its state dict; return their names."""
    order = [name for name, _, _ in _named(optimizer)]
    kind = class_of(optimizer).__name__
    shared = {i: name for i, name in enumerate(order) if state["optimizers"].get(name) == kind}
    target["state"] = {i: state["state"][name] for i, name in shared.items() if name in state["state"]}
    saved = {name: state["options"][name] for name in shared.values()}
    for group in target["param_groups"]:
        group.update(_group_state(optimizer, group, saved))
    return order


def _group_state(
    optimizer: Optimizer, group: Mapping[str, Any], saved: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what the optimizer itself keeps in a param group (Prodigy's `d`, step counters), from the checkpoint.

    That is whatever its constructor takes no argument for. `saved` has the options by parameter name; a group of
    new parameters alone gets what all others agree on.
    """
    parameters = inspect.signature(class_of(optimizer)).parameters
    options = set(parameters)
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        options |= set(optimizer.defaults)
    keys = dict.fromkeys(key for each in saved.values() for key in each)  # some are there from the first step on
    own = [key for key in keys if key not in options and not key.startswith("initial_")]
    names = [name for name in group.get("param_names", ()) if name in saved]
    found: dict[str, Any] = {}
    for key in own:
        values = [saved[name][key] for name in names or saved if key in saved[name]]
        if values and (names or all(_same(value, values[0]) for value in values)):
            found[key] = copy.deepcopy(values[0])
        if names and not all(_same(value, values[0]) for value in values):
            logger.warning("Param group of %s: %r differs in the checkpoint; it is %r.", names[0], key, values[0])
    return found


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    return bool(first == second)


def _joined(parts: Mapping[str, Unmatched]) -> Unmatched:
    return Unmatched(
        tuple(f"{name}.{each}" for name, part in parts.items() for each in part.new),
        tuple(f"{name}.{each}" for name, part in parts.items() for each in part.left_over),
    )


def _wrappers(state: Mapping[str, Any]) -> str:
    return "a single wrapper" if "options" in state else f"the wrappers {sorted(state)}"


def load_named_options(optim_wrapper: OptimWrapper | OptimWrapperDict, state: Mapping[str, Any]) -> None:
    """Take the checkpoint's hyperparameters (lr, weight decay, ...) instead of the config's.

    Raises:
        ValueError: parameters of one param group have different ones in the checkpoint.
    """
    if isinstance(optim_wrapper, OptimWrapperDict):
        for name, wrapper in optim_wrapper.items():
            load_named_options(wrapper, state[name])
        return
    for group in optim_wrapper.param_groups:
        options = [state["options"][name] for name in group["param_names"] if name in state["options"]]
        if any(each != options[0] for each in options):
            raise ValueError(
                f"The checkpoint gave {group['param_names'][0]!r} and others of its param group different "
                "hyperparameters; build the wrapper with the checkpoint's paramwise_cfg."
            )
        if options:
            group.update(copy.deepcopy(options[0]))


def _keys_of_optimizer(optim_wrapper: OptimWrapper) -> set[str]:
    """Return under which keys a wrapper's state dict has its optimizer's."""
    optimizer = optim_wrapper.optimizer
    return set(optimizer.optimizers) if isinstance(optimizer, HybridOptimizer) else {"state", "param_groups"}


def _targets(state_dict: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the torch state dicts in a wrapper's: itself, or those of a HybridOptimizer."""
    return [state_dict] if "param_groups" in state_dict else list(state_dict.values())


def _named(optimizer: Optimizer) -> Iterator[tuple[str, Tensor, dict[str, Any]]]:
    for group in optimizer.param_groups:
        if "param_names" not in group:
            raise ValueError("A param group has no param_names: build the wrapper with build_optim_wrapper.")
        for name, param in zip(group["param_names"], group["params"], strict=True):
            yield name, param, group
