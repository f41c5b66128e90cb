"""What a checkpoint holds of a run, gathered and put back; the same on one rank and on several."""

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from optwrap.checkpoint.model_state import full_state, local_state
from optwrap.optim import (
    OptimWrapper,
    OptimWrapperDict,
    Schedule,
    ScheduleDict,
    load_named_options,
    load_named_state_dict,
    named_state_dict,
)
from optwrap.optim.parallel.sharded_state import full
from optwrap.optim.wrapper_dict import named_wrappers
from optwrap.plan.ranks import Ranks

FORMAT = 2
_MOST_UPDATES = 1000  # of one wrapper in a micro-batch: a schedule is advanced update by update


@dataclass(frozen=True)
class RunParts:
    """The parts of a run that training changes; a task takes part where it has `state_dict` and its opposite."""

    model: nn.Module
    optim_wrapper: OptimWrapper | OptimWrapperDict
    schedule: Schedule | ScheduleDict
    task: Any

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every part, whole; optimizer state is by parameter name.

        Of several ranks all call it, and rank 0's is the one to save.
        """
        named = full(named_state_dict(self.optim_wrapper), keep=Ranks.current().is_first)
        return self._state_dict(full_state(self.model), named)

    def local_state_dict(self) -> dict[str, Any]:
        """Return the same with what this rank holds of each tensor."""
        return self._state_dict(local_state(self.model), named_state_dict(self.optim_wrapper))

    def _state_dict(self, model: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
        state = {
            "format": FORMAT,
            "model": model,
            "optim_wrapper": named,
            "counters": {name: _counters(each) for name, each in named_wrappers(self.optim_wrapper).items()},
            "schedule": self.schedule.state_dict(),
        }
        if hasattr(self.task, "state_dict"):
            state["task"] = self.task.state_dict()
        return state

    def load_optimizers(self, state: Mapping[str, Any]) -> list[str]:
        """Load optimizer state and counters; return the wrappers whose parameters all begin without state.

        Raises:
            KeyError: the wrappers are others.
            ValueError: the counters cannot be those of a run.
        """
        wrappers, counters = named_wrappers(self.optim_wrapper), state["counters"]
        most = _MOST_UPDATES * state["progress"]["micro_batches"]
        if any(not 0 <= each["updates"] <= most for each in counters.values()):
            raise ValueError("It counts more updates than its micro-batches can have made.")
        if any(type(each["micro_batches"]) is not int or each["micro_batches"] < 0 for each in counters.values()):
            raise ValueError("Its counts of micro-batches are no counts.")
        new = set(load_named_state_dict(self.optim_wrapper, state["optim_wrapper"]).new)
        for name, wrapper in wrappers.items():
            wrapper.updates = counters[name]["updates"]
            wrapper.skipped_steps = counters[name]["skipped_steps"]
            wrapper.last_grad_norm = counters[name]["last_grad_norm"]
            if wrapper.averaging is not None and not wrapper.averaging.updates:  # it was not averaged before
                wrapper.averaging.start_after(wrapper.updates)
        return [name for name, wrapper in wrappers.items() if new.issuperset(_param_names(wrapper, name))]

    def load_schedule(self, state: Mapping[str, Any]) -> None:
        """Put the schedule, which must move the same hyperparameters, where it stood."""
        self.schedule.load_state_dict(state["schedule"])

    def load_hyperparameters(self, state: Mapping[str, Any]) -> None:
        """Take all hyperparameters as they stood: a task may have changed some that no schedule moves."""
        load_named_options(self.optim_wrapper, state["optim_wrapper"])

    def advance_schedule(self) -> None:
        """Advance a new schedule to the updates that were made."""
        with warnings.catch_warnings():  # torch expects an optimizer step before each of a schedule
            warnings.simplefilter("ignore", UserWarning)
            self.schedule.step()

    def load_task(self, state: Mapping[str, Any]) -> None:
        """Load the task's own state, where it has any."""
        if "task" in state and hasattr(self.task, "load_state_dict"):
            self.task.load_state_dict(state["task"])


def each_tensor(state: Any, name: str, change: Callable[[str, Tensor], Tensor]) -> Any:
    """Return a copy of a nest of dicts and lists, with `change` of the name and value of each tensor in it."""
    if isinstance(state, Tensor):
        return change(name, state)
    if isinstance(state, Mapping):
        changed: Any = copy.copy(state)  # a state dict of torch has attributes beside its items
        for key, value in state.items():  # one by one: to `update` a Counter is to add to it
            changed[key] = each_tensor(value, f"{name}/{key}", change)
        return changed
    if type(state) in (list, tuple):
        return type(state)([each_tensor(value, f"{name}/{i}", change) for i, value in enumerate(state)])
    return copy.deepcopy(state)


def _counters(wrapper: OptimWrapper) -> dict[str, int | Tensor | None]:
    return {
        "micro_batches": wrapper.inner_count,
        "updates": wrapper.updates,
        "skipped_steps": wrapper.skipped_steps,
        "last_grad_norm": wrapper.last_grad_norm,
    }


def _param_names(wrapper: OptimWrapper, prefix: str) -> list[str]:
    return [prefix + name for group in wrapper.param_groups for name in group["param_names"]]
