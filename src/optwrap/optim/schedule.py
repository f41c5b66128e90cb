"""Schedules: hyperparameters that move with the number of updates."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from optwrap.errors import ConfigError
from optwrap.instantiate import locate, partial, plain
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict

# Arguments that mean the length of the run, filled in where a config leaves them out.
_LENGTHS = ("T_max", "total_steps", "total_updates")


class Schedule:
    """The schedulers of one wrapper: call `step` after every micro-batch, it advances once an update.

    A skipped step does not advance it. Schedulers of the learning rate act on the optimizer itself (and move
    momentum, if they do); any other hyperparameter is driven by a scheduler over a stand-in optimizer.
    """

    def __init__(self, optim_wrapper: OptimWrapper, factories: Mapping[str, Callable[[Optimizer], Any]]) -> None:
        self._wrapper = optim_wrapper
        self._seen_updates = optim_wrapper.updates
        self._stand_ins: dict[str, Optimizer] = {
            name: _stand_in(optim_wrapper.optimizer, name) for name in factories if name != "lr"
        }
        self._schedulers: dict[str, LRScheduler] = {}
        for name, factory in factories.items():
            self._schedulers[name] = factory(self._stand_ins.get(name, optim_wrapper.optimizer))
        self._write_back()

    def step(self) -> None:
        """Advance by the updates made since the last call."""
        while self._seen_updates < self._wrapper.updates:
            self._seen_updates += 1
            for stand_in in self._stand_ins.values():
                stand_in.step()  # without gradients: only tells the scheduler that an update was made
            for scheduler in self._schedulers.values():
                if not isinstance(scheduler, ReduceLROnPlateau):
                    scheduler.step()
        self._write_back()

    def step_on_metric(self, value: float) -> None:
        """Show an evaluation's metric to the schedulers that wait for one (ReduceLROnPlateau)."""
        for scheduler in self._schedulers.values():
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(value)
        self._write_back()

    def state_dict(self) -> dict[str, Any]:
        """Return the schedulers' states by hyperparameter."""
        return {name: _plain_state(scheduler.state_dict()) for name, scheduler in self._schedulers.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            KeyError: the hyperparameters are not those of this schedule.
        """
        if set(state_dict) != set(self._schedulers):
            raise KeyError(f"The state dict schedules {sorted(state_dict)}, this run {sorted(self._schedulers)}.")
        for name, scheduler in self._schedulers.items():
            scheduler.load_state_dict(dict(state_dict[name]))
        self._seen_updates = self._wrapper.updates

    def _write_back(self) -> None:
        for name, stand_in in self._stand_ins.items():
            for group, source in zip(self._wrapper.param_groups, stand_in.param_groups, strict=True):
                if name == "momentum" and "momentum" not in group:
                    group["betas"] = (source["lr"], *group["betas"][1:])
                else:
                    group[name] = source["lr"]


class ScheduleDict:
    """The schedules of the wrappers of an OptimWrapperDict, stepped and saved together."""

    def __init__(self, schedules: Mapping[str, Schedule]) -> None:
        self._schedules = dict(schedules)

    def step(self) -> None:
        """Advance each by the updates its wrapper made."""
        for schedule in self._schedules.values():
            schedule.step()

    def step_on_metric(self, value: float) -> None:
        """Show an evaluation's metric to each."""
        for schedule in self._schedules.values():
            schedule.step_on_metric(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the states by wrapper."""
        return {name: schedule.state_dict() for name, schedule in self._schedules.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        for name, schedule in self._schedules.items():
            schedule.load_state_dict(state_dict[name])


def build_schedule(
    optim_wrapper: OptimWrapper | OptimWrapperDict, cfg: Any, micro_batches: int
) -> Schedule | ScheduleDict:
    """Build the schedule that `cfg` describes: `{hyperparameter: {_target_: ..., ...}}`, empty for constant.

    Each target gets the optimizer as its first argument; `T_max`, `total_steps` or `total_updates`, where left
    out, is the number of updates in a run of `micro_batches`. For an OptimWrapperDict, `cfg` is one schedule
    for all wrappers, or `{wrapper: schedule}` with constant ones left out.

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
    schedules = {}
    for name, wrapper in optim_wrapper.items():
        key = f"schedule.{name}" if own else "schedule"
        its_entries = plain(entries.get(name) or {}, key) if own else entries
        schedules[name] = _schedule(wrapper, its_entries, key, micro_batches)
    return ScheduleDict(schedules)


def _schedule(optim_wrapper: OptimWrapper, entries: Mapping[str, Any], key: str, micro_batches: int) -> Schedule:
    total_updates = -(-micro_batches // optim_wrapper.accumulative_counts)
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
    bound = partial(cfg, key)

    def make(optimizer: Optimizer) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                return bound(optimizer)
        except ConfigError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{key}: {error}") from error

    return make


def _check_hyperparameter(name: str, optim_wrapper: OptimWrapper, key: str) -> None:
    for group in optim_wrapper.param_groups:
        value = group.get(name, group.get("betas", [None])[0] if name == "momentum" else None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            numbers = [key for key, v in group.items() if isinstance(v, int | float) and not isinstance(v, bool)]
            raise ConfigError(
                f"{key}.{name}: the optimizer's param groups have no number {name!r} to schedule; "
                f"they have {', '.join(numbers)}."
            )


def _stand_in(optimizer: Optimizer, name: str) -> Optimizer:
    """Return an optimizer whose `lr` in each param group is the hyperparameter `name` of the real one."""
    values = [group[name] if name in group else group["betas"][0] for group in optimizer.param_groups]
    return torch.optim.SGD([{"params": [torch.zeros(())], "lr": float(value)} for value in values], lr=0.0)


def _plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not callable(value)}
