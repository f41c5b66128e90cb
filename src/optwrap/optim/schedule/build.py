"""From a schedule's config to the schedule of a wrapper, or of several."""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from optwrap.errors import ConfigError, did_you_mean
from optwrap.instantiate import locate, partial, plain
from optwrap.optim.schedule.schedule import Schedule, ScheduleDict
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict

# Arguments that mean the length of the run, filled in where a config leaves them out.
_LENGTHS = ("T_max", "total_steps", "total_updates")


def build_schedule(
    optim_wrapper: OptimWrapper | OptimWrapperDict, cfg: Any, micro_batches: int
) -> Schedule | ScheduleDict:
    """Build the schedule that `cfg` describes: `{hyperparameter: {_target_: ..., ...}}`, empty for constant.

    Each target gets the optimizer as its first argument; `T_max`, `total_steps` or `total_updates`, where left
    out, is the number of updates in a run of `micro_batches` (or of the wrapper's own `max_counts`). For an
    OptimWrapperDict, `cfg` is one schedule for all, or `{wrapper: schedule}` with constant ones left out.

    Raises:
        ConfigError: a target or its arguments are wrong, or a param group has no such hyperparameter.
    """
    entries = {name: item for name, item in plain(cfg or {}, "schedule").items() if item is not None}
    if isinstance(optim_wrapper, OptimWrapper):
        return _schedule(optim_wrapper, entries, "schedule", micro_batches)
    own, others = set(entries) & set(optim_wrapper), set(entries) - set(optim_wrapper)
    if own and others:
        raise ConfigError(
            f"schedule: {', '.join(sorted(own))} are wrappers and {', '.join(sorted(others))} are not. Give one "
            f"schedule for all wrappers, or one for each of {', '.join(optim_wrapper)}."
        )
    for name in others:
        if nearest := did_you_mean(name, optim_wrapper):
            raise ConfigError(f"schedule.{name}: there is no wrapper {name!r}.{nearest}")
    schedules = {}
    for name, wrapper in optim_wrapper.items():
        key = f"schedule.{name}" if own else "schedule"
        its_entries = plain(entries.get(name) or {}, key) if own else entries
        schedules[name] = _schedule(wrapper, its_entries, key, micro_batches)
    return ScheduleDict(schedules)


def _schedule(optim_wrapper: OptimWrapper, entries: Mapping[str, Any], key: str, micro_batches: int) -> Schedule:
    counts = optim_wrapper.max_counts or micro_batches
    total_updates = -(-counts // optim_wrapper.accumulative_counts)
    for name in entries:
        _check_hyperparameter(name, optim_wrapper, key)
    return Schedule(
        optim_wrapper,
        {name: _factory(item, f"{key}.{name}", total_updates) for name, item in entries.items()},
    )


def _factory(cfg: Any, key: str, total_updates: int) -> Callable[[Optimizer], Any]:
    cfg = plain(cfg, key)
    target = cfg.get("_target_")
    if target not in (None, "???"):
        names = inspect.signature(target if callable(target) else locate(target, f"{key}._target_")).parameters
        for length in _LENGTHS:
            unset = cfg.get(length) in (None, "???") and cfg.get("epochs") is None  # OneCycleLR's other way
            if length in names and unset:
                cfg[length] = total_updates
        if "max_lr" in names and "total_steps" in names and cfg.get("max_lr") in (None, "???"):
            return _one_cycle({name: value for name, value in cfg.items() if name != "max_lr"}, key)
    parts = [_factory(part, f"{key}.schedulers[{i}]", total_updates) for i, part in enumerate(_parts(cfg))]
    bound = partial({name: value for name, value in cfg.items() if name != "schedulers"} if parts else cfg, key)

    def make(optimizer: Optimizer) -> Any:
        if not parts:
            return _calling(functools.partial(bound, optimizer), key)
        schedulers = [part(optimizer) for part in parts]
        first = () if "ChainedScheduler" in str(cfg["_target_"]) else (optimizer,)
        return _calling(functools.partial(bound, *first, schedulers=schedulers), key)

    return make


def _one_cycle(cfg: Mapping[str, Any], key: str) -> Callable[[Optimizer], Any]:
    """Return a OneCycleLR whose peak is each param group's own lr: one number for all would undo paramwise_cfg."""

    def make(optimizer: Optimizer) -> Any:
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        return _calling(functools.partial(partial({**cfg, "max_lr": peaks}, key), optimizer), key)

    return make


def _calling(bound: Callable[[], Any], key: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return bound()
    except ConfigError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        remedy = f". Set {key}.cycle_momentum=false." if "`cycle_momentum`" in str(error) else ""
        raise ConfigError(f"{key}: {error}{remedy}") from error


def _parts(cfg: Mapping[str, Any]) -> list[Any]:
    """Return the configs of the schedulers that SequentialLR or ChainedScheduler combines."""
    parts = cfg.get("schedulers")
    return parts if isinstance(parts, list) and all(isinstance(part, Mapping) for part in parts) else []


def _check_hyperparameter(name: str, optim_wrapper: OptimWrapper, key: str) -> None:
    for group in optim_wrapper.param_groups:
        value = group.get(name, group.get("betas", [None])[0] if name == "momentum" else None)
        if not _is_number(value):
            numbers = [option for option, each in group.items() if _is_number(each)]
            raise ConfigError(
                f"{key}.{name}: the optimizer's param groups have no number {name!r} to schedule; "
                f"they have {', '.join(numbers)}."
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | torch.Tensor) and not isinstance(value, bool)
