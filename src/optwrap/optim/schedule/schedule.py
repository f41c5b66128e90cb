"""Schedules: hyperparameters that move with the number of updates."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, ReduceLROnPlateau

from optwrap.optim.wrapper import OptimWrapper


class Schedule:
    """The schedulers of one wrapper: call `step` after every micro-batch, it advances once an update.

    A skipped step does not advance it: where that is known only later, on CUDA, the schedule stands still then
    for as many updates as it is ahead. Schedulers of the learning rate act on the optimizer itself (and move
    momentum, if they do); any other hyperparameter is driven by a scheduler over a stand-in optimizer.
    """

    def __init__(self, optim_wrapper: OptimWrapper, factories: Mapping[str, Callable[[Optimizer], Any]]) -> None:
        self._wrapper = optim_wrapper
        self._seen_updates = optim_wrapper.updates
        for group in optim_wrapper.param_groups:
            # ReduceLROnPlateau does not say where it began; a tensor is moved in place.
            group.setdefault("initial_lr", float(group["lr"]))
        self._stand_ins: dict[str, Optimizer] = {
            name: _stand_in(optim_wrapper.optimizer, name) for name in factories if name != "lr"
        }
        self._schedulers: dict[str, LRScheduler] = {}
        for name, factory in factories.items():
            self._schedulers[name] = factory(self._stand_ins.get(name, optim_wrapper.optimizer))
        self._write_back()

    def step(self) -> None:
        """Advance by the updates made since the last call."""
        while self._seen_updates < self._wrapper.updates_so_far:
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
        """Return, by hyperparameter, the scheduler's state and the values of the param groups."""
        ahead = self._seen_updates - self._wrapper.updates
        return {
            name: {
                "ahead": ahead,
                "scheduler": _plain_state(scheduler.state_dict()),
                "values": [float(group["lr"]) for group in scheduler.optimizer.param_groups],
                "initial": [float(group["initial_lr"]) for group in scheduler.optimizer.param_groups],
            }
            for name, scheduler in self._schedulers.items()
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, after the wrapper's own state.

        Values come back exactly where the config gives a param group the base value that it had; under other
        base values or param groups they keep their proportion to the base.

        Raises:
            KeyError: the hyperparameters are not those of this schedule.
        """
        if set(state_dict) != set(self._schedulers):
            raise KeyError(f"The state dict schedules {sorted(state_dict)}, this run {sorted(self._schedulers)}.")
        for name, scheduler in self._schedulers.items():
            state = copy.deepcopy(state_dict[name])
            ranges = [(part, _ranges(part)) for part in _cyclic_parts(scheduler)]
            scheduler.load_state_dict(state["scheduler"])
            _set_base_values(scheduler)
            for part, values in ranges:
                vars(part).update(values)
            groups = scheduler.optimizer.param_groups
            same_groups = len(groups) == len(state["values"])
            for i, group in enumerate(groups):
                saved, initial = (state[key][i if same_groups else 0] for key in ("values", "initial"))
                unchanged = group["initial_lr"] == initial
                value = saved if unchanged or not initial else group["initial_lr"] * saved / initial
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(value)
                else:
                    group["lr"] = value
        ahead = max((state.get("ahead", 0) for state in state_dict.values()), default=0)
        self._seen_updates = self._wrapper.updates + ahead
        self._write_back()

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


def _set_base_values(scheduler: Any) -> None:
    """Take base values from the param groups: the checkpoint's may be those of another config."""
    if hasattr(scheduler, "base_lrs"):  # a CyclicLR's are arguments of its own, see _ranges
        scheduler.base_lrs = [group["initial_lr"] for group in scheduler.optimizer.param_groups]
    for part in getattr(scheduler, "_schedulers", ()):  # SequentialLR, ChainedScheduler
        _set_base_values(part)


def _cyclic_parts(scheduler: Any) -> list[CyclicLR]:
    inside = [part for each in getattr(scheduler, "_schedulers", ()) for part in _cyclic_parts(each)]
    return [scheduler] if isinstance(scheduler, CyclicLR) else inside


def _ranges(scheduler: CyclicLR) -> dict[str, Any]:
    """Return the bounds, one for each param group, that the config gave; the checkpoint may have other groups."""
    names = ("base_lrs", "max_lrs", "base_momentums", "max_momentums")
    return {name: value for name, value in vars(scheduler).items() if name in names}


def _stand_in(optimizer: Optimizer, name: str) -> Optimizer:
    """Return an optimizer whose `lr` in each param group is the hyperparameter `name` of the real one.

    The real groups remember the value that they began with, as torch's schedulers do with `initial_lr`.
    """
    groups = []
    for group in optimizer.param_groups:
        current = group[name] if name in group else group["betas"][0]
        initial = float(group.setdefault(f"initial_{name}", current))
        groups.append({"params": [torch.zeros(())], "lr": initial, "initial_lr": initial})
    return torch.optim.SGD(groups, lr=0.0)


def _plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not callable(value)}
