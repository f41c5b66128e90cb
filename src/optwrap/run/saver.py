"""Saves a run as it goes, and takes it back to what was saved."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from optwrap.checkpoint.file_saver import FileSaver
from optwrap.checkpoint.model_state import load_full_state, sharded_params
from optwrap.checkpoint.replicas import check_replicas
from optwrap.checkpoint.resume import find_saved
from optwrap.config.resuming import AUTO
from optwrap.errors import ConfigError
from optwrap.hooks.hooks import Hooks
from optwrap.optim import load_named_state_dict
from optwrap.optim.wrapper_dict import named_wrappers
from optwrap.plan.calls import CallCheck, begin
from optwrap.plan.random_state import get_random_state, set_random_state
from optwrap.program.interruption import Interrupted, Interruption
from optwrap.record.recorder import Recorder
from optwrap.run.course import Course
from optwrap.run.nonfinite import NonFiniteWatch

if TYPE_CHECKING:
    from optwrap.checkpoint.shard_saver import ShardSaver

logger = logging.getLogger(__name__)


class Saver:
    """Writes checkpoints of a run and its records; the config is kept in them, to say later what has changed.

    A context manager: one that is still being written in the background is waited for at the end.
    """

    def __init__(
        self,
        course: Course,
        recorder: Recorder,
        hooks: Hooks,
        on_nonfinite: str,
        interruption: Interruption,
    ) -> None:
        self._checkpoints, self._parts, self._plan = course.checkpoints, course.parts, course.plan
        self._config, self._saved, self._process = course.config, course.saved, course.process
        self._ranks = course.process.ranks
        self._recorder, self._hooks, self._objective = recorder, hooks, course.objective
        interruption.settle = self.wait
        self._newest: Path | None = None
        self._untold = False
        switches = course.config["checkpoint"]
        self._sharded = switches["sharded"]
        self._writer = _writer(course, switches)
        self._ongoing = self._writer.ongoing
        self._wrappers, self._on_nonfinite = named_wrappers(course.parts.optim_wrapper), on_nonfinite
        self._check_calls = CallCheck(self._wrappers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Interrupted):
            self.wait()
        else:
            try:
                # Other ranks may be gone, and shards are written together.
                self._ongoing.poll() if self._sharded else self._ongoing.wait()
            except Exception as other:  # the one that ends the run is the one to show
                logger.warning("The last checkpoint is not there either: %s", other)

    def step(self, stats: Mapping[str, Tensor], count: int) -> None:
        """Watch micro-batch `count`, its numbers and calls; finish a checkpoint that is written by now."""
        self._check_calls(count)
        self.watch.step(stats, count)
        if not self._ongoing.is_idle:
            self._ongoing.poll()
            self._tell_if_written()

    def begin(self) -> int:
        """Start at the plan's beginning, or where the checkpoint stood; return the micro-batches behind."""
        # Here, since it looks at the model as it is when training begins: a hook may have tried something out.
        self.watch = NonFiniteWatch(
            *(self._on_nonfinite, self._wrappers, self._plan, self._roll_back, self._ranks, self._parts.model)
        )
        saved = self._saved
        if saved is not None:
            self._newest = saved.path
            self._objective.best = saved.state["best"]
            self.watch.rollbacks = saved.state["rollbacks"]
            self.watch.load_state(saved.state.get("buffers"))
            if saved.random is not None:
                set_random_state(saved.random, self._process.device)
        elif self.watch.needs_checkpoint:
            self.save(0)
        return self._plan.start.micro_batches

    def wait(self) -> None:
        """Wait until every checkpoint is on disk; raises as `save`."""
        self._ongoing.wait()
        self._tell_if_written()

    def save(self, count: int) -> None:
        """Write a checkpoint after micro-batch `count`, unless something is NaN or inf, or ranks disagree.

        Raises:
            ConfigError: as `NonFiniteWatch.check` and `check_replicas`, or the disk is full.
        """
        self.wait()
        self._untold = False  # until this one is on its way: its rows are no checkpoint's yet
        self.watch.check(count)
        check_replicas(self._parts.model, self._ranks)
        plan = self._plan
        held = plan.held_after(count)
        progress = {
            "micro_batches": count,
            "shift": plan.start.shift,
            "held": held,
            "update": plan.update_after(count),
            "updates_planned": plan.updates,
            "per_epoch": plan.per_epoch,
            "batch_size": self._config["batch_size"],
            "accumulative_counts": plan.accumulative_counts,
        }
        records, random = self._recorder.state_dict(), get_random_state(self._process.device)
        others = self._ranks.gather({"random": random, "meter": records["meter"]})[1:]
        rest = {
            "progress": progress,
            "recorder": records,
            "hooks": self._hooks.state_dict(),
            "best": self._objective.best,
            "rollbacks": self.watch.rollbacks,
            "buffers": self.watch.state(),
            "random": random,
            "other_ranks": others,
            "config": self._config,
        }
        state = self._parts.local_state_dict() if self._sharded else self._parts.state_dict()
        self._newest = self._writer.save(state | rest, plan.update_after(count), held)
        self._untold = True
        self._tell_if_written()

    def _tell_if_written(self) -> None:
        """Let trackers have the rows that a resumed run will not make again."""
        if self._untold and self._ongoing.is_idle:
            self._untold = False
            self._recorder.saved()

    def keep_if_best(self, metrics: Mapping[str, float]) -> None:
        """Keep the newest checkpoint as the best where its evaluation is the best so far."""
        improves = self._objective.improves(metrics[self._objective.metric])
        if improves and self._newest is not None:
            self._ongoing.mark_best(self._newest)

    def _roll_back(self, count: int) -> None:
        """Give model and optimizers what the last checkpoint holds; everything else goes on from here."""
        self._ongoing.wait()
        sharded = sharded_params(self._parts.model)
        saved = find_saved(AUTO, self._checkpoints, self._process.state_device, self._ranks, sharded)
        if saved is None:
            raise ConfigError("on_nonfinite=rollback: there is no checkpoint to go back to.")
        optim_wrapper = self._parts.optim_wrapper
        load_full_state(self._parts.model, saved.state["model"])
        load_named_state_dict(optim_wrapper, saved.state["optim_wrapper"])
        for name, wrapper in named_wrappers(optim_wrapper).items():
            wrapper.zero_grad()  # what the checkpoint held of a window is of another place
            # Not that of the bad update: the next checkpoint would hold it, and a resumed run take it for news.
            wrapper.last_grad_norm = saved.state["counters"][name]["last_grad_norm"]
        begin(optim_wrapper, self._parts.model, self._plan.micro_batches, count)


def _writer(course: Course, switches: Mapping[str, Any]) -> "FileSaver | ShardSaver":
    if not switches["sharded"]:
        return FileSaver(course.checkpoints, course.process.ranks, switches["asynchronous"] is not False)
    from optwrap.checkpoint.shard_saver import ShardSaver  # loads torch.distributed.checkpoint

    return ShardSaver(course.checkpoints, course.process.ranks, bool(switches["asynchronous"]))
