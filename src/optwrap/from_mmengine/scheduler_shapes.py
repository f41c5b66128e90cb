"""What shape each kind of MMEngine's parameter schedulers has, as a part of a schedule without its place."""

from collections.abc import Callable
from typing import Any

from optwrap.from_mmengine.scheduler import NO_END, Scheduler

Part = dict[str, Any]


def _to_its_last_step(shape: str, arguments: dict[str, Any], scheduler: Scheduler) -> Part:
    """Return a part whose last update has its last value: MMEngine goes there in `end - begin - 1` steps."""
    steps, run = scheduler.steps, scheduler.run
    if steps is not None and run is not None and scheduler.begin + steps > run:
        arguments = {**arguments, "length": scheduler.place(steps - 1)}
    return {shape: arguments, "endpoint": True}


def _to_its_end(shape: str, arguments: dict[str, Any], scheduler: Scheduler) -> Part:
    """Return a part that stays at the value of its last update, where the run goes on."""
    return {shape: arguments} | ({} if scheduler.end is None else {"endpoint": True})


def _linear(scheduler: Scheduler) -> Part:
    return _to_its_last_step("linear", scheduler.chosen("start_factor", "end_factor"), scheduler)


def _quadratic(scheduler: Scheduler) -> Part:
    return _to_its_last_step("quadratic", {}, scheduler)


def _poly(scheduler: Scheduler) -> Part:
    return _to_its_last_step("poly", scheduler.chosen("power") | _floor(scheduler), scheduler)


def _constant(scheduler: Scheduler) -> Part:
    factor = scheduler.get("factor", 1 / 3)
    return {"constant": {}} if factor == 1 else _to_its_last_step("constant", {"factor": factor}, scheduler)


def _exponential(scheduler: Scheduler) -> Part:
    return _to_its_end("exponential", scheduler.chosen("gamma"), scheduler)


def _step(scheduler: Scheduler) -> Part:
    size = scheduler.place(scheduler.get("step_size"))
    return _to_its_end("step", {"step_size": size, **scheduler.chosen("gamma")}, scheduler)


def _multi_step(scheduler: Scheduler) -> Part | None:
    """Count its milestones from the begin of the run, without those that it does not reach."""
    last = min(scheduler.steps or NO_END, (scheduler.run or NO_END) - scheduler.begin)
    reached = [scheduler.place(scheduler.begin + each) for each in scheduler.get("milestones") if each < last]
    return {"multi_step": {"milestones": reached, **scheduler.chosen("gamma")}} if reached else None


def _cosine(scheduler: Scheduler) -> Part:
    whole = scheduler.get("T_max") or scheduler.steps
    in_the_run = scheduler.end is None and scheduler.run is not None and whole == scheduler.run - scheduler.begin
    length = {} if in_the_run or whole is None else {"length": scheduler.place(whole)}
    return _to_its_end("cosine", _floor(scheduler) | length, scheduler)


def _restarts(scheduler: Scheduler) -> Part:
    arguments = {
        "periods": [scheduler.place(each) for each in scheduler.get("periods")],
        "weights": list(scheduler.get("restart_weights", [1])),
    }
    return _to_its_end("cosine_restarts", arguments | _floor(scheduler), scheduler)


def _one_cycle(scheduler: Scheduler) -> Part:
    rest = scheduler.chosen("pct_start", "anneal_strategy", "div_factor", "final_div_factor", "three_phase")
    steps = scheduler.get("total_steps") or scheduler.steps
    length = {} if steps in (None, scheduler.steps) else {"length": scheduler.place(steps - 1)}
    return _to_its_last_step("one_cycle", {"max_value": scheduler.get("eta_max", 0), **rest, **length}, scheduler)


def _plateau(scheduler: Scheduler) -> Part:
    if scheduler.get("min_value"):
        scheduler.say("its min_value is the base value's here, to which groups keep their proportion")
    if scheduler.end is not None:
        scheduler.say("its end is left out")
    names = ("factor", "patience", "threshold", "cooldown", "eps")
    others = {"min_lr": scheduler.get("min_value"), "threshold_mode": scheduler.get("threshold_rule")}
    mode = {"less": "min", "greater": "max"}[scheduler.get("rule", "less")]
    rest = scheduler.chosen(*names) | {name: value for name, value in others.items() if value is not None}
    return {"plateau": {"metric": scheduler.get("monitor", "loss"), "mode": mode, **rest}}


def _floor(scheduler: Scheduler) -> dict[str, Any]:
    ratio, value = scheduler.get("eta_min_ratio"), scheduler.get("eta_min")
    if ratio is not None or not value:
        return {} if ratio is None else {"min_factor": ratio}
    if scheduler.name.endswith("ParamScheduler"):
        scheduler.say(f"a group whose {scheduler.hyperparameter} is 0 stays there, MMEngine moves it to eta_min")
    return {"min_value": value}


SHAPES: dict[str, Callable[[Scheduler], Part | None]] = {
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
