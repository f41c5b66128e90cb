"""From a schedule's config to the schedule of a wrapper, or of several."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from optwrap.errors import ConfigError, did_you_mean
from optwrap.instantiate import plain
from optwrap.optim.averaging.switched import switches
from optwrap.optim.schedule.factories import UNSET, is_plateau, parts_of, scheduler_factory
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
    optim_wrapper: OptimWrapper | OptimWrapperDict, cfg: Any, micro_batches: int, metrics: Metrics = Metrics()
) -> Schedule | ScheduleDict:
    """Build the schedule that `cfg` describes: `{hyperparameter: {_target_: ..., ...}}`, empty for constant.

    Each target gets an optimizer as its first argument. `T_max`, `total_steps`, `total_iters` or `total_updates`,
    where left out, is the number of updates in a run of `micro_batches` (or of the wrapper's own `max_counts`);
    in a SequentialLR what its milestones leave, which may be fractions of the run. A ReduceLROnPlateau follows
    `metric`, by default the objective, and its `mode` is that metric's direction. For an OptimWrapperDict, `cfg`
    is one schedule for all, or `{wrapper: schedule}` with constant ones left out.

    Raises:
        ConfigError: a target or its arguments are wrong, or a param group has no such hyperparameter.
    """
    entries = {name: item for name, item in plain(cfg or {}, "schedule").items() if item is not None}
    if isinstance(optim_wrapper, OptimWrapper):
        return _schedule(optim_wrapper, entries, "schedule", micro_batches, metrics)
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
        schedules[name] = _schedule(wrapper, its_entries, key, micro_batches, metrics)
    return ScheduleDict(schedules)


def _schedule(
    optim_wrapper: OptimWrapper, entries: Mapping[str, Any], key: str, micro_batches: int, metrics: Metrics
) -> Schedule:
    if "lr" in entries and switches(optim_wrapper.optimizer):
        name = type(optim_wrapper.optimizer).__name__
        logger.warning("%s.lr: %s averages its weights in place of a schedule. Take schedule=constant.", key, name)
    counts = optim_wrapper.max_counts or calls_in(micro_batches, optim_wrapper.calls_per_batch)
    total_updates = -(-counts // optim_wrapper.accumulative_counts)
    factories, followed = {}, {}
    for name, item in entries.items():
        _check_hyperparameter(name, optim_wrapper, key)
        cfg = plain(item, f"{key}.{name}")
        followed[name] = _metric(cfg, f"{key}.{name}", metrics)
        factories[name] = scheduler_factory(cfg, f"{key}.{name}", total_updates)
    return Schedule(optim_wrapper, factories, followed)


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
