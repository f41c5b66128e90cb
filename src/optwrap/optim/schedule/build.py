"""From a schedule's config to the schedule of a wrapper, or of several."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from optwrap.errors import ConfigError, did_you_mean
from optwrap.instantiate import plain
from optwrap.optim.averaging.switched import switches
from optwrap.optim.schedule.factories import (
    UNSET,
    Factory,
    is_plateau,
    parts_factory,
    parts_of,
    scheduler_factory,
)
from optwrap.optim.schedule.lengths import Clock
from optwrap.optim.schedule.parts import check_no_parts, is_in_parts, read_parts
from optwrap.optim.schedule.schedule import Schedule, ScheduleDict
from optwrap.optim.window.counts import calls_in
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metrics:
    """What an evaluation gives: by name, whether higher is better (None: nobody says), and the objective.

    Not `evaluated`: the run has no data to evaluate on as it goes.
    """

    higher_is_better: Mapping[str, bool | None] = field(default_factory=dict)
    objective: str | None = None
    evaluated: bool = True


def build_schedule(
    optim_wrapper: OptimWrapper | OptimWrapperDict,
    cfg: Any,
    micro_batches: int,
    metrics: Metrics = Metrics(),
    per_epoch: int | None = None,
    cut_short: bool = False,
) -> Schedule | ScheduleDict:
    """Build the schedule that `cfg` describes: `{hyperparameter: ...}`, for each wrapper, or by its name.

    A hyperparameter has parts (`[{linear: {}, until: 500}, {cosine: {}}]`, or named ones), or a `_target_`, which
    gets an optimizer first, and where `T_max`, `total_steps`, `total_iters` or `total_updates` is left out, the
    updates that the run has in `micro_batches` (or the wrapper's `max_counts`). Epochs have `per_epoch` of them. A
    ReduceLROnPlateau follows `metric`, by default the objective, and its `mode` is that metric's direction. Where
    the run is `cut_short` for debugging, parts may lie beyond its end.

    Raises:
        ConfigError: parts, or a target or its arguments are wrong, or param groups have no such hyperparameter.
    """
    entries = {name: item for name, item in plain(cfg or {}, "schedule").items() if item is not None}
    if isinstance(optim_wrapper, OptimWrapper):
        clock = _clock(optim_wrapper, micro_batches, per_epoch, cut_short)
        return _schedule(optim_wrapper, entries, "schedule", clock, metrics)
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
        clock = _clock(wrapper, micro_batches, per_epoch, cut_short)
        schedules[name] = _schedule(wrapper, its_entries, key, clock, metrics)
    return ScheduleDict(schedules)


def _clock(optim_wrapper: OptimWrapper, micro_batches: int, per_epoch: int | None, cut_short: bool) -> Clock:
    """Return how many updates a wrapper makes in the run, and in an epoch of so many micro-batches of it."""
    counts = optim_wrapper.max_counts or calls_in(micro_batches, optim_wrapper.calls_per_batch)
    total = -(-counts // optim_wrapper.accumulative_counts)
    if per_epoch is None:
        return Clock(total, cut_short=cut_short)
    calls = Fraction(optim_wrapper.calls_per_batch).limit_denominator(10**6)
    return Clock(total, per_epoch * calls / optim_wrapper.accumulative_counts, cut_short)


def _schedule(
    optim_wrapper: OptimWrapper, entries: Mapping[str, Any], key: str, clock: Clock, metrics: Metrics
) -> Schedule:
    if "lr" in entries and switches(optim_wrapper.optimizer):
        name = type(optim_wrapper.optimizer).__name__
        logger.warning("%s.lr: %s averages its weights in place of a schedule. Take schedule=constant.", key, name)
    factories, followed = {}, {}
    for name, item in entries.items():
        _check_hyperparameter(name, optim_wrapper, key)
        factories[name], followed[name] = _factory(item, f"{key}.{name}", clock, metrics)
    return Schedule(optim_wrapper, factories, followed)


def _factory(item: Any, key: str, clock: Clock, metrics: Metrics) -> tuple[Factory, str | None]:
    """Return what makes a hyperparameter's scheduler, and the metric that it follows."""
    if not is_in_parts(item):
        cfg = plain(item, key)
        check_no_parts(cfg, key)
        followed = _metric(cfg, key, metrics)
        return scheduler_factory(cfg, key, clock.updates), followed
    parts = read_parts(item, key, clock)
    if parts.plateau is None:
        return parts_factory(parts), None
    plateau = {"_target_": ReduceLROnPlateau, **parts.plateau}
    followed = _metric(plateau, parts.plateau_key, metrics)
    arguments = {name: value for name, value in plateau.items() if name != "_target_"}
    return parts_factory(replace(parts, plateau=arguments)), followed


def _metric(cfg: dict[str, Any], key: str, metrics: Metrics) -> str | None:
    """Fill in the mode of a plateau, of this scheduler or of its last part; return the metric that it follows."""
    parts = parts_of(cfg)
    if parts:
        cfg["schedulers"] = [*parts[:-1], last := plain(parts[-1], key)]
        return _metric(last, f"{key}.schedulers[{len(parts) - 1}]", metrics)
    if not is_plateau(cfg, key):
        return None
    if not metrics.evaluated:
        raise ConfigError(f"{key} follows an evaluation on val, and data.val is missing or empty. Give data.val.")
    name = cfg.pop("metric", None) or metrics.objective
    if name is None:  # nobody says what there is: as torch does
        cfg["mode"] = "min" if cfg.get("mode") in UNSET else cfg["mode"]
        return None
    if name not in metrics.higher_is_better:
        raise ConfigError(
            f"{key}.metric={name}: there is no such metric.{did_you_mean(name, metrics.higher_is_better)} "
            f"Metrics: {', '.join(metrics.higher_is_better)}."
        )
    if cfg.get("mode") in UNSET:
        higher = metrics.higher_is_better[name]
        if higher is None:
            raise ConfigError(
                f"{key}.mode is not set, and the metric {name!r} does not say whether higher is better: set it to "
                "min or max."
            )
        cfg["mode"] = "max" if higher else "min"
    return name


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
