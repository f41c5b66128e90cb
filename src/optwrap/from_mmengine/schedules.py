"""MMEngine's lists of parameter schedulers as schedules in parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_SUFFIXES = {"LR": "lr", "Momentum": "momentum", "WeightDecay": "weight_decay", "ParamScheduler": ""}
_NO_END = 10**9
_OF_ALL = ("type", "param_name", "begin", "end", "by_epoch", "convert_to_iter_based")
_WITHOUT_EFFECT = ("verbose", "last_step", "_scope_")

Part = dict[str, Any]


def schedule_of(
    param_scheduler: Sequence[Mapping[str, Any]], by_epoch: bool, length: int
) -> tuple[dict[str, Any], list[str]]:
    """Return the `schedule` of a list of MMEngine's schedulers, and what could not be carried over, in words.

    Args:
        param_scheduler: the schedulers' configs, those of one optimizer.
        by_epoch: whether the run is one of epochs; else of iterations, which are updates without accumulation.
        length: how many of them it has.
    """
    found: dict[str, list[tuple[_Scheduler, Part]]] = {}
    notes: list[str] = []
    for cfg in param_scheduler:
        scheduler = _read(cfg, by_epoch, length)
        part = _part(scheduler)
        notes += scheduler.notes
        if part is not None:
            found.setdefault(scheduler.hyperparameter, []).append((scheduler, part))
    return {name: _joined(each) for name, each in found.items()}, notes


@dataclass(frozen=True)
class _Scheduler:
    """One of the list: what it moves, how, and from where to where.

    Attributes:
        given: its config, and `used`, what of it was asked for.
        by_epoch: its numbers are epochs; it is a `staircase` where it steps once in each.
        stands: it never steps, since it does so by epoch in a run of iterations.
        run: the length of the run as it counts; None where the run counts otherwise.
        end: None where it goes on to the end of the run.
        steps: from `begin` to its own end, which may lie beyond that of the run; None where nobody says.
        notes: what could not be carried over.
    """

    name: str
    kind: str
    hyperparameter: str
    given: Mapping[str, Any]
    by_epoch: bool
    staircase: bool
    stands: bool
    run: int | None
    begin: int
    end: int | None
    steps: int | None
    used: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def place(self, number: int) -> int | str:
        """Write a place or a length as its part has it."""
        return _epochs(number) if self.by_epoch and not self.staircase else number

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument."""
        self.used.add(name)
        return self.given.get(name, default)

    def chosen(self, *names: str) -> dict[str, Any]:
        """Return the arguments of these names that are given."""
        return {name: self.get(name) for name in names if self.get(name) is not None}

    def say(self, note: str) -> None:
        """Note what is not carried over."""
        self.notes.append(f"{self.name}: {note}")


def _epochs(number: int) -> str:
    return f"{number} epoch{'s' * (number != 1)}"


def _read(cfg: Mapping[str, Any], by_epoch: bool, length: int) -> _Scheduler:
    name = getattr(cfg["type"], "__name__", str(cfg["type"]).rpartition(".")[2])
    suffix = next((each for each in _SUFFIXES if name.endswith(each)), "")
    kind = "Poly" if name == "PolyLRRatio" else name.removesuffix(suffix)
    its_epochs = bool(cfg.get("by_epoch", True))
    run = length if its_epochs == by_epoch else None
    of_the_run = run or (1 if its_epochs else _NO_END)  # a run of iterations is one epoch
    begin, end = cfg.get("begin", 0), cfg.get("end", of_the_run)
    staircase = its_epochs and not cfg.get("convert_to_iter_based", False) and kind != "ReduceOnPlateau"
    stands = staircase and run is None
    return _Scheduler(
        name,
        kind,
        _SUFFIXES.get(suffix) or cfg.get("param_name", "lr"),
        cfg,
        by_epoch=its_epochs,
        staircase=staircase and not stands,
        stands=stands,
        run=run,
        begin=begin,
        end=None if stands or end >= (run or _NO_END) else end,
        steps=None if end >= _NO_END else end - begin,
    )


def _part(scheduler: _Scheduler) -> Part | None:
    """Return the part that a scheduler is, without its place; None where it changes nothing."""
    shape = _SHAPES.get(scheduler.kind)
    if shape is None:
        scheduler.say("left out, there is no such shape here")
        return None
    if scheduler.stands:
        scheduler.say("by_epoch=True, so that it does not step in a run of iterations, nor here")
        factor = {"Linear": "start_factor", "Constant": "factor"}.get(scheduler.kind)
        return {"constant": {"factor": scheduler.get(factor, 1 / 3)}} if factor and not scheduler.begin else None
    if scheduler.run is not None and scheduler.begin >= scheduler.run:
        scheduler.say(f"begin={scheduler.begin} is the end of the run or later, so that it is left out")
        return None
    part = shape(scheduler)
    for name in scheduler.given if part is not None else ():
        if name not in (*_OF_ALL, *_WITHOUT_EFFECT, *scheduler.used):
            scheduler.say(f"its {name} is left out")
    return part


def _to_its_last_step(shape: str, arguments: dict[str, Any], scheduler: _Scheduler) -> Part:
    """Return a part whose last update has its last value: MMEngine goes there in `end - begin - 1` steps."""
    steps, run = scheduler.steps, scheduler.run
    if steps is not None and run is not None and scheduler.begin + steps > run:
        arguments = {**arguments, "length": scheduler.place(steps - 1)}
    return {shape: arguments, "endpoint": True}


def _to_its_end(shape: str, arguments: dict[str, Any], scheduler: _Scheduler) -> Part:
    """Return a part that stays at the value of its last update, where the run goes on."""
    return {shape: arguments} | ({} if scheduler.end is None else {"endpoint": True})


def _linear(scheduler: _Scheduler) -> Part:
    return _to_its_last_step("linear", scheduler.chosen("start_factor", "end_factor"), scheduler)


def _quadratic(scheduler: _Scheduler) -> Part:
    return _to_its_last_step("quadratic", {}, scheduler)


def _poly(scheduler: _Scheduler) -> Part:
    return _to_its_last_step("poly", scheduler.chosen("power") | _floor(scheduler), scheduler)


def _constant(scheduler: _Scheduler) -> Part:
    factor = scheduler.get("factor", 1 / 3)
    return {"constant": {}} if factor == 1 else _to_its_last_step("constant", {"factor": factor}, scheduler)


def _exponential(scheduler: _Scheduler) -> Part:
    return _to_its_end("exponential", scheduler.chosen("gamma"), scheduler)


def _step(scheduler: _Scheduler) -> Part:
    size = scheduler.place(scheduler.get("step_size"))
    return _to_its_end("step", {"step_size": size, **scheduler.chosen("gamma")}, scheduler)


def _multi_step(scheduler: _Scheduler) -> Part | None:
    """Count its milestones from the begin of the run, without those that it does not reach."""
    last = min(scheduler.steps or _NO_END, (scheduler.run or _NO_END) - scheduler.begin)
    reached = [scheduler.place(scheduler.begin + each) for each in scheduler.get("milestones") if each < last]
    return {"multi_step": {"milestones": reached, **scheduler.chosen("gamma")}} if reached else None


def _cosine(scheduler: _Scheduler) -> Part:
    whole = scheduler.get("T_max") or scheduler.steps
    in_the_run = scheduler.end is None and scheduler.run is not None and whole == scheduler.run - scheduler.begin
    length = {} if in_the_run or whole is None else {"length": scheduler.place(whole)}
    return _to_its_end("cosine", _floor(scheduler) | length, scheduler)


def _restarts(scheduler: _Scheduler) -> Part:
    arguments = {
        "periods": [scheduler.place(each) for each in scheduler.get("periods")],
        "weights": list(scheduler.get("restart_weights", [1])),
    }
    return _to_its_end("cosine_restarts", arguments | _floor(scheduler), scheduler)


def _one_cycle(scheduler: _Scheduler) -> Part:
    rest = scheduler.chosen("pct_start", "anneal_strategy", "div_factor", "final_div_factor", "three_phase")
    steps = scheduler.get("total_steps") or scheduler.steps
    length = {} if steps in (None, scheduler.steps) else {"length": scheduler.place(steps - 1)}
    return _to_its_last_step("one_cycle", {"max_value": scheduler.get("eta_max", 0), **rest, **length}, scheduler)


def _plateau(scheduler: _Scheduler) -> Part:
    if scheduler.get("min_value"):
        scheduler.say("its min_value is the base value's here, to which groups keep their proportion")
    if scheduler.end is not None:
        scheduler.say("its end is left out")
    names = ("factor", "patience", "threshold", "cooldown", "eps")
    others = {"min_lr": scheduler.get("min_value"), "threshold_mode": scheduler.get("threshold_rule")}
    mode = {"less": "min", "greater": "max"}[scheduler.get("rule", "less")]
    rest = scheduler.chosen(*names) | {name: value for name, value in others.items() if value is not None}
    return {"plateau": {"metric": scheduler.get("monitor", "loss"), "mode": mode, **rest}}


def _floor(scheduler: _Scheduler) -> dict[str, Any]:
    ratio, value = scheduler.get("eta_min_ratio"), scheduler.get("eta_min")
    if ratio is not None or not value:
        return {} if ratio is None else {"min_factor": ratio}
    if scheduler.name.endswith("ParamScheduler"):
        scheduler.say(f"a group whose {scheduler.hyperparameter} is 0 stays there, MMEngine moves it to eta_min")
    return {"min_value": value}


_SHAPES: dict[str, Callable[[_Scheduler], Part | None]] = {
    "Linear": _linear,
    "QuadraticWarmup": _quadratic,
    "Constant": _constant,
    "Exponential": _exponential,
    "Step": _step,
    "MultiStep": _multi_step,
    "Poly": _poly,
    "CosineAnnealing": _cosine,
    "CosineRestart": _restarts,
    "OneCycle": _one_cycle,
    "ReduceOnPlateau": _plateau,
}


def _joined(found: Sequence[tuple[_Scheduler, Part]]) -> list[Part]:
    """Return the parts with their places: what is the default is left out, and gaps become constant parts."""
    joined: list[Part] = []
    reached = {True: 0, False: 0}  # by whether they count epochs, how far the parts go
    end: tuple[bool, int] | None = None  # where the next part begins by itself
    for scheduler, part in found:
        by_epoch, begin = scheduler.by_epoch, scheduler.begin
        if reached[by_epoch] < begin and _NO_END not in reached.values():
            # Whether so many epochs are more than so many updates is not known here: from 0, it is never wrong.
            start = {"from": 0} if reached[not by_epoch] else {}
            joined.append({"constant": {}, **start, "until": _epochs(begin) if by_epoch else begin})
            end = (by_epoch, begin)
        follows = end == (by_epoch, begin) or not (joined or begin)
        stays = scheduler.end is None or "multi_step" in part
        joined.append(
            {
                **part,
                **({} if follows else {"from": scheduler.place(begin)}),
                **({} if stays else {"until": scheduler.place(scheduler.end or 0)}),
                **({"per": "epoch"} if scheduler.staircase else {}),
            }
        )
        end = None if stays else (by_epoch, scheduler.end or 0)
        reached[by_epoch] = max(reached[by_epoch], _NO_END if stays else scheduler.end or 0)
    return joined
