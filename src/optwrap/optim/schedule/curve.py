"""The course of one hyperparameter: one scheduler for all param groups, each in proportion to its own value."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from optwrap.optim.constructors.hybrid import optimizers_of
from optwrap.optim.schedule.in_parts import InParts
from optwrap.optim.schedule.schedulers import PlateauAfter
from optwrap.optim.step.own_step import built_bare, note_step

_SEEN_BY_PLATEAUS = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


class StandIn(Optimizer):
    """Trains nothing: its `lr`, one for each optimizer of the wrapper, is the hyperparameter that is scheduled.

    Beside the lr it has the momentum or betas, which some schedulers move too. `base` in its groups is the value
    that the optimizer was given.
    """

    def __init__(self, optimizers: list[Optimizer], name: str) -> None:
        groups = [{"params": [torch.zeros(())], "lr": base_value(each, name)} for each in optimizers]
        defaults: dict[str, Any] = {"lr": groups[0]["lr"]}
        for option in ("momentum", "betas"):
            if name == "lr" and all(option in each.param_groups[0] for each in optimizers):
                value = [base_value(each, "momentum") for each in optimizers]
                for group, own in zip(groups, value, strict=True):
                    group[option] = own if option == "momentum" else (own, 0.0)
                defaults[option] = groups[0][option]
        for group in groups:
            group["base"] = group["lr"]
        with built_bare():
            super().__init__(groups, defaults)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do nothing, but count for schedulers as an optimizer's step."""
        return None


class Curve:
    """Moves the hyperparameter `name` of a wrapper's param groups, once for each update.

    Every group keeps its proportion to the optimizer's base value: what a scheduler is told as an absolute value
    (`eta_min`, `max_lr`, ...) is for the base value, and a group that begins at 0 stays there. In parts,
    `min_value` and `max_value` are the same for all. `momentum` is Adam's beta1. Where `metric` is None, any
    metric will do for a ReduceLROnPlateau.
    """

    def __init__(
        self, name: str, optimizer: Optimizer, factory: Callable[[Optimizer], Any], metric: str | None = None
    ) -> None:
        self._name, self._optimizer, self._factory, self.metric = name, optimizer, factory, metric
        for group in optimizer.param_groups:
            _own_value(group, name)
        self._scheduler, self._stand_in, self._position = self._begin()
        self._began = self._beginning()

    def advance(self) -> None:
        """Go on by one update."""
        self._position += 1
        note_step(self._stand_in)
        if not isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step()

    def step_on_metric(self, value: float) -> None:
        """Show an evaluation's metric to a scheduler that waits for one."""
        if isinstance(self._scheduler, PlateauAfter | InParts):
            self._scheduler.step_on_metric(value)
        elif isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(value)

    def write(self) -> None:
        """Give every param group its value; a group added since then begins with the one that it has."""
        moves_momentum = self._moves_momentum
        for optimizer, source in zip(optimizers_of(self._optimizer), self._stand_in.param_groups, strict=True):
            for group in optimizer.param_groups:
                _put(group, self._name, self._value(_own_value(group, self._name), source))
                if moves_momentum:
                    base = base_value(optimizer, "momentum")
                    own = _own_value(group, "momentum")
                    _put(group, "momentum", _proportional(_momentum(source), base, own))

    def state_dict(self) -> dict[str, Any]:
        """Return the place on the curve, and with what it began: to know whether another one is the same."""
        return {"position": self._position, "metric": self.metric, "began": self._began, **self._state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go to the place that `state_dict` returned.

        A scheduler that begins otherwise than that one did (of another length, from another base value, another
        one) is taken there update by update; of a ReduceLROnPlateau, what it has seen counts on.
        """
        state = copy.deepcopy(dict(state_dict))
        self._scheduler, self._stand_in, self._position = self._begin()
        self._began = self._beginning()
        if state["began"] == self._began:
            self._scheduler.load_state_dict(state["scheduler"])
            for group, saved in zip(self._stand_in.param_groups, state["groups"], strict=True):
                group.update(saved)
            self._position = state["position"]
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                for _ in range(state["position"]):
                    self.advance()
            self._see_again(state)

    def _value(self, own: float, source: Mapping[str, Any]) -> float:
        """Return the value of a group that began at `own`; `source` is its optimizer's group in the stand-in."""
        if isinstance(self._scheduler, InParts):
            return self._scheduler.value(own, source)
        return _proportional(source["lr"], source["base"], own)

    @property
    def _moves_momentum(self) -> bool:
        return self._name == "lr" and any(getattr(each, "cycle_momentum", False) for each in _all(self._scheduler))

    def _begin(self) -> tuple[Any, StandIn, int]:
        """Return a new scheduler, what it moves, and its place."""
        stand_in = StandIn(optimizers_of(self._optimizer), self._name)
        return self._factory(stand_in), stand_in, 0

    def _beginning(self) -> dict[str, Any]:
        return copy.deepcopy({"class": type(self._scheduler).__name__, **self._state()})

    def _state(self) -> dict[str, Any]:
        state = self._scheduler.state_dict()
        return {
            "scheduler": {name: value for name, value in state.items() if not callable(value)},
            "groups": [
                {name: value for name, value in group.items() if name != "params"}
                for group in self._stand_in.param_groups
            ],
        }

    def _see_again(self, state: Mapping[str, Any]) -> None:
        """Go on with what a ReduceLROnPlateau of other arguments has seen, and how far it has gone down."""
        plateaus = [each for each in _all(self._scheduler) if isinstance(each, ReduceLROnPlateau)]
        saved = state["scheduler"].get("plateau", state["scheduler"])
        if not plateaus or "num_bad_epochs" not in saved:
            return
        if (saved["mode"], state["metric"]) != (plateaus[0].mode, self.metric):
            return
        vars(plateaus[0]).update({name: saved[name] for name in _SEEN_BY_PLATEAUS})
        if getattr(self._scheduler, "waits_for_metrics", True):
            before = state["groups"][0]
            for group in self._stand_in.param_groups:
                group["lr"] = _proportional(before["lr"], before["base"], group["base"])


def base_value(optimizer: Optimizer, name: str) -> float:
    """Return the value that a param group has whose factor is 1: the optimizer's own, or else the largest.

    Where no constructor made the groups, an own value that none of them has is no value to compare with.
    """
    groups = optimizer.param_groups
    values = [_own_value(group, name) for group in groups]
    defaults = optimizer.defaults
    own = _momentum(defaults) if name == "momentum" and "betas" in defaults else defaults.get(name)
    if own is None or (own == 0 and any(values)):
        return max(values)
    return float(own) if float(own) in values or all("param_names" in group for group in groups) else max(values)


def _own_value(group: dict[str, Any], name: str) -> float:
    """Return the value that the group began with: kept in it, as torch's schedulers keep `initial_lr`."""
    if f"initial_{name}" not in group:
        value = _momentum(group) if name == "momentum" else group[name]
        group[f"initial_{name}"] = float(value)  # a tensor is moved in place
    return float(group[f"initial_{name}"])


def _momentum(group: Mapping[str, Any]) -> Any:
    return group["momentum"] if "momentum" in group else group["betas"][0]


def _proportional(value: float, base: float, own: float) -> float:
    """Return what `value` is for a group that begins at `own` and not at `base`; exact where nothing is to do."""
    if own == base:
        return float(value)
    return own if value == base else float(value) * (own / base)


def _put(group: dict[str, Any], name: str, value: float) -> None:
    if name == "momentum" and "momentum" not in group:
        group["betas"] = (value, *group["betas"][1:])
    elif isinstance(group[name], torch.Tensor):
        group[name].fill_(value)
    else:
        group[name] = value


def _all(scheduler: Any) -> Iterator[Any]:
    """Yield the scheduler and those that it is made of."""
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):  # SequentialLR, ChainedScheduler
        yield from _all(part)
    if isinstance(scheduler, PlateauAfter):
        yield from (scheduler.plateau, *_all(scheduler.first))
    if isinstance(scheduler, InParts) and scheduler.plateau is not None:
        yield scheduler.plateau
