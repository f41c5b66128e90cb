"""MMEngine's lists of parameter schedulers as schedules in parts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optwrap.from_mmengine.scheduler import NO_END, Scheduler, epochs, in_updates, read_scheduler
from optwrap.from_mmengine.scheduler_shapes import SHAPES, Part

_OF_ALL = ("type", "param_name", "begin", "end", "by_epoch", "convert_to_iter_based")
_WITHOUT_EFFECT = ("verbose", "last_step", "_scope_")


def schedule_of(
    param_scheduler: Sequence[Mapping[str, Any]], by_epoch: bool, length: int, accumulative_counts: int = 1
) -> tuple[dict[str, Any], list[str]]:
    """Return the `schedule` of a list of MMEngine's schedulers, and what could not be carried over, in words.

    Args:
        param_scheduler: the schedulers' configs, those of one optimizer.
        by_epoch: whether the run is one of epochs; else of iterations, which are micro-batches.
        length: how many of them it has.
        accumulative_counts: micro-batches to an update, in which schedules count.
    """
    found: dict[str, list[tuple[Scheduler, Part]]] = {}
    notes: list[str] = []
    updates = length if by_epoch else math.ceil(length / accumulative_counts)
    for cfg in param_scheduler:
        counts_micro_batches = accumulative_counts > 1 and not cfg.get("by_epoch", True)
        its_cfg = in_updates(cfg, accumulative_counts) if counts_micro_batches else cfg
        scheduler = read_scheduler(its_cfg, by_epoch, updates)
        if counts_micro_batches:
            scheduler.say(
                f"its iterations are micro-batches, {accumulative_counts} to an update: rounded to updates"
            )
        part = _part(scheduler)
        notes += scheduler.notes
        if part is not None:
            found.setdefault(scheduler.hyperparameter, []).append((scheduler, part))
    return {name: _joined(each) for name, each in found.items()}, notes


def _part(scheduler: Scheduler) -> Part | None:
    """Return the part that a scheduler is, without its place; None where it changes nothing."""
    shape = SHAPES.get(scheduler.kind)
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


def _joined(found: Sequence[tuple[Scheduler, Part]]) -> list[Part]:
    """Return the parts with their places: what is the default is left out, and gaps become constant parts."""
    joined: list[Part] = []
    reached = {True: 0, False: 0}  # by whether they count epochs, how far the parts go
    end: tuple[bool, int] | None = None  # where the next part begins by itself
    for scheduler, part in found:
        by_epoch, begin = scheduler.by_epoch, scheduler.begin
        if reached[by_epoch] < begin and NO_END not in reached.values():
            # Whether so many epochs are more than so many updates is not known here: from 0, it is never wrong.
            start = {"from": 0} if reached[not by_epoch] else {}
            joined.append({"constant": {}, **start, "until": epochs(begin) if by_epoch else begin})
            end = (by_epoch, begin)
        follows = end == (by_epoch, begin) or not joined
        joined.append(
            {
                **part,
                **({} if follows else {"from": scheduler.place(begin)}),
                **({} if scheduler.end is None else {"until": scheduler.place(scheduler.end)}),
                **({"per": "epoch"} if scheduler.staircase else {}),
            }
        )
        end = None if scheduler.end is None else (by_epoch, scheduler.end)
        reached[by_epoch] = max(reached[by_epoch], scheduler.end or NO_END)
    return joined
