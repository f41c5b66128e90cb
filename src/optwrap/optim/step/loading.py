"""Loading a torch optimizer's state: by name, in the dtypes that the optimizer gives it, and whole."""

import contextlib
import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from optwrap.errors import ConfigError
from optwrap.optim.parallel.sharded_state import place_state
from optwrap.optim.step.own_step import bare

_HOW_IT_STEPS = ("fused", "foreach")  # this run's own choice
_NAMED = "load_named_state_dict, from what named_state_dict returned, starts what is new without state"
NOT_OPTIONS = frozenset({"params", "param_names", *_HOW_IT_STEPS})
_OF_SCHEDULES = ("initial_", "base_", "max_", "min_", "swa_")  # what torch's schedulers note in groups begins so


def load(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> None:
    """Load torch's state dict: by name where both sides have names, else by position.

    Tensors get the dtype that the optimizer's own step gives them; what an option that is on now needs
    (`amsgrad`, momentum) and the state has not starts as zeros. The argument is not modified.

    Raises:
        ConfigError: the parameters are others, in other groups, or the state is of another class of optimizer; the
            optimizer is then as it was.
    """
    before = optimizer.state, optimizer.param_groups
    # Sharded before it is copied: whole, it may not fit.
    state_dict = copy.deepcopy(place_state(optimizer, _by_name(optimizer, state_dict)))
    state = state_dict["state"]
    keys = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
    try:
        try:
            bare(optimizer, "load_state_dict")({**state_dict, "state": state})
        except KeyError as error:  # torch looks for what the optimizer itself would have there
            raise _of_another(optimizer, f"it has no {error}") from error
        for group, own in zip(optimizer.param_groups, before[1], strict=True):
            _complete_options(optimizer, group, own)
            _complete_state(optimizer, group, [state.get(next(keys), {}) for _ in group["params"]])
    except BaseException:
        optimizer.state, optimizer.param_groups = before  # torch has put others in their place
        raise


def in_own_order(optimizer: Optimizer, state_dict: Mapping[str, Any], values: Sequence[Any]) -> Sequence[Any]:
    """Return `values`, one for each parameter of a state dict, in the order of the optimizer's parameters."""
    # A HybridOptimizer's holds several.
    parts = [state_dict, *(part for part in state_dict.values() if isinstance(part, Mapping))]
    saved = names_of(group for part in parts for group in part.get("param_groups", ()))
    own = names_of(optimizer.param_groups)
    if own is None or saved is None or own == saved:
        return values
    by_name = dict(zip(saved, values, strict=True))
    return [by_name[name] for name in own]


def names_of(groups: Iterable[Mapping[str, Any]]) -> list[str] | None:
    """Return the names of all parameters of param groups, in order; None where they do not tell them apart."""
    found = [group.get("param_names") for group in groups]
    if any(names is None for names in found):
        return None
    names = list(chain.from_iterable(names for names in found if names is not None))
    return names if len(set(names)) == len(names) else None


def _by_name(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict with groups and parameters in the order that those of the optimizer have."""
    own_groups, saved_groups = optimizer.param_groups, state_dict["param_groups"]
    own, saved = names_of(own_groups), names_of(saved_groups)
    orders = [[list(group.get("param_names", ())) for group in groups] for groups in (own_groups, saved_groups)]
    if own is None or saved is None or orders[0] == orders[1]:
        return dict(state_dict)
    if set(own) != set(saved):
        new, left = (sorted(set(one) - set(other)) for one, other in ((own, saved), (saved, own)))
        raise ConfigError(
            f"The state dict is of other parameters: new here are {_some(new)}, left over {_some(left)}. {_NAMED}."
        )
    by_names = {frozenset(group["param_names"]): group for group in saved_groups}
    groups = []
    for group in own_groups:
        match = by_names.get(frozenset(group["param_names"]))
        if match is None or len(saved_groups) != len(own_groups):
            raise ConfigError(
                f"The state dict has {_some(group['param_names'])} in other param groups, with hyperparameters of "
                "their own. load_named_state_dict, from what named_state_dict returned, keeps this wrapper's."
            )
        keys = dict(zip(match["param_names"], match["params"], strict=True))
        names = group["param_names"]
        groups.append({**match, "params": [keys[name] for name in names], "param_names": list(names)})
    if isinstance(optimizer, LBFGS):
        raise ConfigError("LBFGS has one state for all parameters in order, and the state dict has another order.")
    return {**state_dict, "param_groups": groups}


def _complete_options(optimizer: Optimizer, group: dict[str, Any], own: Mapping[str, Any]) -> None:
    """Take from the optimizer's own group how it steps, and options that the loaded one lacks."""
    # Less those that torch adds to the defaults when it loads.
    lacking = [name for name in optimizer.defaults if name in own and name not in group]
    others = [name for name in group if name not in own and name not in NOT_OPTIONS]
    foreign = [name for name in others if not name.startswith(_OF_SCHEDULES)]
    strange = [name for name in lacking if not isinstance(own[name], type)]  # a class is in no checkpoint
    if strange and foreign:
        raise _of_another(optimizer, f"it has {_some(foreign)} and no {_some(strange)}")
    group.update({name: own[name] for name in (*lacking, *_HOW_IT_STEPS) if name in own})


def _complete_state(optimizer: Optimizer, group: Mapping[str, Any], saved: list[Mapping[str, Any]]) -> None:
    """Give the loaded state of a group's parameters what it lacks, and the dtypes of the optimizer's own."""
    first_steps: dict[Any, Mapping[str, Any]] = {}
    for param, its_saved in zip(group["params"], saved, strict=True):
        state = optimizer.state.get(param)
        if not state:
            continue
        kind = (_few(param), param.dtype)
        if kind not in first_steps:
            first_steps[kind] = _first_state(optimizer, group, param)
        fresh = first_steps[kind]
        for name, value in its_saved.items():
            if name != "step" and isinstance(value, Tensor) and isinstance(state.get(name), Tensor):
                # torch gives all of it the parameter's dtype: float32 beside bfloat16 weights, a counter.
                dtype = fresh[name].dtype if isinstance(fresh.get(name), Tensor) else value.dtype
                if state[name].dtype != dtype:
                    state[name] = value.to(state[name].device, dtype)
        lacking = [name for name in fresh if name not in state]
        foreign = [name for name in state if name not in fresh]
        if lacking and (foreign or not all(_starts_as_zeros(fresh[name], _few(param)) for name in lacking)):
            raise _of_another(optimizer, f"a parameter's state has {_some(list(state))} and no {_some(lacking)}")
        for name in lacking:
            state[name] = torch.zeros_like(param, dtype=fresh[name].dtype, memory_format=torch.preserve_format)


def _first_state(optimizer: Optimizer, group: Mapping[str, Any], param: Tensor) -> Mapping[str, Any]:
    """Return the state that a first step gives a parameter of this kind, learned from one of a few zeros.

    It is empty where that cannot be learned: the optimizer keeps more than groups and state, or needs a closure.
    """
    if type(optimizer).__getstate__ is not Optimizer.__getstate__:
        return {}
    stand_in = nn.Parameter(torch.zeros(_few(param), dtype=param.dtype))
    stand_in.grad = torch.zeros_like(stand_in)
    options = {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}
    options |= {name: False for name in (*_HOW_IT_STEPS, "capturable") if name in options}
    probe = copy.copy(optimizer)  # as pickle does: without hooks
    probe.state, probe.param_groups = type(optimizer.state)(dict), [{**options, "params": [stand_in]}]
    with contextlib.suppress(Exception), torch.random.fork_rng(devices=[]), torch.no_grad():
        inspect.unwrap(type(optimizer).step)(probe)  # without the hooks of all optimizers
        return dict(probe.state[stand_in])
    return {}


def _few(param: Tensor) -> tuple[int, ...]:
    """Return the shape of a part of the parameter: no size above 8, since a small one may get other state."""
    return tuple(min(size, 8) for size in param.shape)


def _starts_as_zeros(value: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, Tensor) and value.shape == shape and not value.any()


def _of_another(optimizer: Optimizer, what: str) -> ConfigError:
    return ConfigError(
        f"The state dict is not one of {type(optimizer).__name__}: {what}. Load it into the optimizer that it is "
        f"of; {_NAMED}."
    )


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:4])) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "none"
