"""The course of a run: its plan, its parts, and the checkpoint that it goes on from."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from optwrap.checkpoint.files import Checkpoints
from optwrap.checkpoint.model_state import sharded_params
from optwrap.checkpoint.resume import Saved, find_saved, finished_value, plain_config, restore, start_of
from optwrap.checkpoint.state import RunParts
from optwrap.errors import ConfigError
from optwrap.loggers.trackers import build_trackers
from optwrap.optim import Metrics, OptimWrapper, OptimWrapperDict, Schedule, ScheduleDict, build_schedule
from optwrap.optim.wrapper_dict import named_wrappers
from optwrap.plan.calls import begin
from optwrap.plan.objective import Objective, objective_of
from optwrap.plan.order import ENDLESS, Order
from optwrap.plan.plan import Plan, accumulative_counts, make_plan
from optwrap.plan.ranks import Ranks
from optwrap.program.folder import run_folder, save_config
from optwrap.program.naming import named, project_folder
from optwrap.provenance.record import write_provenance
from optwrap.record.folder_writer import complete, send_rest
from optwrap.record.meters import unit_of
from optwrap.record.recorder import Recorder
from optwrap.run.data.splits import EVALUATED
from optwrap.run.loaders import Loaders
from optwrap.run.setup import Process, machine, seed_rank
from optwrap.run.threads import keep_threads

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Course:
    """What a run does and where it stands; `finished` is the objective's value where nothing is left to do."""

    plan: Plan
    parts: RunParts
    objective: Objective
    folder: Path
    checkpoints: Checkpoints
    saved: Saved | None
    finished: float | None
    config: Mapping[str, Any]
    process: Process
    data: Loaders

    @property
    def schedule(self) -> Schedule | ScheduleDict:
        """What moves the hyperparameters."""
        return self.parts.schedule


def set_course(
    cfg: DictConfig,
    process: Process,
    data: Loaders,
    model: nn.Module,
    optim_wrapper: OptimWrapper | OptimWrapperDict,
    task: Any,
) -> Course:
    """Plan the run and build its schedule; where `cfg.resume` asks for it, put every part where it stood.

    Raises:
        ConfigError: a number of the plan is out of range, there is no data for the objective, or the checkpoint
            does not fit the run.
    """
    ranks, folder = process.ranks, run_folder()
    seed_rank(cfg.seed, ranks)
    objective = Objective(_objective(cfg, data, task), task, cfg.checkpoint.best)
    checkpoints = Checkpoints.of_run(folder, cfg.checkpoint.keep)
    checkpoints.check_own()
    saved = find_saved(cfg.resume, checkpoints, process.state_device, ranks, sharded_params(model))
    plan = _plan(cfg, data.order, optim_wrapper, saved, ranks)
    finished = finished_value(folder, saved, plan, objective.name, ranks, plain_config(cfg).get("hooks"))
    judged = Metrics(objective.directions, objective.metric) if data.has("val") else Metrics(evaluated=False)
    per_epoch = None if plan.per_epoch == ENDLESS else plan.per_epoch
    schedule = build_schedule(
        optim_wrapper, cfg.schedule, plan.micro_batches, judged, per_epoch, cfg.debug.fast_dev_run
    )
    for wrapper in named_wrappers(optim_wrapper).values():
        updates = plan.per_epoch * wrapper.calls_per_batch / wrapper.accumulative_counts
        wrapper.freezer.updates_per_epoch = None if per_epoch is None else updates
    begin(optim_wrapper, model, plan.micro_batches)
    keep_threads(cfg.get("threads"), None if saved is None else saved.state["config"].get("threads"))
    parts = RunParts(model, optim_wrapper, schedule, task)
    config = plain_config(cfg) | {"threads": torch.get_num_threads()}
    if saved is not None and finished is not None and ranks.is_first:
        checkpoints.complete(saved.path)
        complete(folder, plan, saved.state["progress"]["micro_batches"])
        send_rest(folder, build_trackers(config, folder, named(folder)))
    if saved is not None and finished is None:
        restore(parts, saved, plan, config)
        if ranks.is_first:
            save_config(folder, cfg)
    return Course(plan, parts, objective, folder, checkpoints, saved, finished, config, process, data)


def _plan(
    cfg: DictConfig,
    order: Order,
    optim_wrapper: OptimWrapper | OptimWrapperDict,
    saved: Saved | None,
    ranks: Ranks,
) -> Plan:
    return make_plan(
        order.per_epoch,
        optim_wrapper,
        epochs=cfg.epochs,
        max_updates=cfg.max_updates,
        log_every=cfg.log_every,
        eval_every=cfg.eval_every,
        eval_epochs=cfg.eval_epochs,
        checkpoint_every=cfg.checkpoint.every,
        start=start_of(saved, order, accumulative_counts(optim_wrapper)),
        between_updates=ranks.size > 1,
    )


def _objective(cfg: DictConfig, data: Loaders, task: Any) -> str:
    """Return the objective's name; where the config leaves it to the task, of the split that is there."""
    name = objective_of(task) if cfg.objective is None else str(cfg.objective)
    split, _, metric = name.partition("/")
    others = [each for each in EVALUATED if data.has(each)]
    if split not in EVALUATED or split in others:
        return name
    if not others:
        raise ConfigError(
            f"data.val and data.test are missing or empty, and objective={name} is of one of them. Give data.val, "
            "as by holding back a part of data.train."
        )
    if cfg.objective is not None:
        raise ConfigError(
            f"objective={name}: data.{split} is missing or empty. Give it, or objective={others[0]}/{metric}."
        )
    other = f"{others[0]}/{metric}"
    logger.info("data.%s is missing or empty: the objective is %s, and no checkpoint is the best.", split, other)
    return other


def record(course: Course) -> Recorder:
    """Return what records this process's part of the run, from where it stands."""
    records = None if course.saved is None else course.saved.records
    ranks = course.process.ranks
    trackers = build_trackers(course.config, course.folder, named(course.folder)) if ranks.is_first else None
    if ranks.is_first:
        facts = machine(course.process) | {"data": course.data.fingerprint}
        write_provenance(course.folder, project_folder(), facts)
    unit = unit_of(course.parts.task)
    return Recorder(course.folder, course.plan, course.parts.optim_wrapper, trackers, records, ranks, unit)
