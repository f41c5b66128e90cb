"""What a run comes to as it goes: its metrics, means over its ranks, and rows of them."""

import time
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from optwrap.errors import ConfigError
from optwrap.loggers.trackers import Trackers
from optwrap.optim import OptimWrapper, OptimWrapperDict
from optwrap.optim.assignment.hyperparameters import base_group
from optwrap.optim.wrapper_dict import named_wrappers
from optwrap.plan.objective import Objective
from optwrap.plan.plan import Plan
from optwrap.plan.ranks import ALONE, Ranks
from optwrap.record.folder_writer import FolderWriter
from optwrap.record.meters import GradNorm, TrainMeter
from optwrap.record.result import check_some_update, result_of


class Recorder:
    """Collects a run's metrics; a context manager around the loop. Rank 0 writes them to the run's folder.

    `trackers` are the loggers beside metrics.csv, `resumed` what `state_dict` returned at the checkpoint that the
    run goes on from, with this rank's own meter. `unit` is what the task counts its work in.

    Raises:
        ConfigError: `resumed` cannot be read; no file is touched then.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        optim_wrapper: OptimWrapper | OptimWrapperDict,
        trackers: Trackers | None = None,
        resumed: Mapping[str, Any] | None = None,
        ranks: Ranks = ALONE,
        unit: str = "samples",
    ) -> None:
        self.plan = plan
        self.metrics: dict[str, float] = {}
        self._ranks = ranks
        self._wrappers = named_wrappers(optim_wrapper)
        self._base_groups = {
            name: base_group(wrapper.param_groups, wrapper.optimizer.defaults.get("lr"))
            for name, wrapper in self._wrappers.items()
        }
        self._speed = f"{unit}_per_second"
        self._meter = TrainMeter(unit)
        self._grad_norms = {
            f"{name}grad_norm": GradNorm(wrapper, plan.logs_update) for name, wrapper in self._wrappers.items()
        }
        self._count = plan.start.micro_batches
        self._seconds_before = 0.0
        if resumed:
            self._resume(folder, resumed)
        self._folder = (
            FolderWriter(folder, plan, self._wrappers, trackers or Trackers(), resumed) if ranks.is_first else None
        )
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        if self._folder is not None:
            self._folder.begin()
        self._started = time.monotonic()
        if not self._seconds_before:
            self._meter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for grad_norm in self._grad_norms.values():
            grad_norm.close()
        if self._folder is not None:
            self._folder.end(error, self._count)

    def train_step(
        self,
        stats: Mapping[str, Tensor],
        samples: int,
        count: int,
        columns: MutableMapping[str, Tensor | float | int | None] | None = None,
    ) -> None:
        """Take in one micro-batch; every `log_every` updates, read the device and write a training row.

        `columns` is what else stands in that row, rank 0's; they are taken out when it is written.
        """
        self._count = count
        self._meter.add(stats, samples)
        if self._folder is not None:
            self._folder.advance(count)
        if not self.plan.logs_after(count):
            return
        means, speed_of_rank = self._meter.read()
        means = self._ranks.mean(means | {self._speed: speed_of_rank})
        speed = {self._speed: means.pop(self._speed) * self._ranks.size}
        if self._folder is not None:
            more = {name: _number(value) for name, value in (columns or {}).items()}
            self._folder.train_row(self._place(count) | means | self._optimizer_columns() | speed | more)
        if columns:
            columns.clear()
        self._meter.start()

    def evaluation(self, split: str, metrics: Mapping[str, float], count: int) -> None:
        """Write a row of an evaluation; its metrics are in `result.json` as `split/name`."""
        self.metrics |= {f"{split}/{name}": value for name, value in metrics.items()}
        if self._folder is not None:
            self._folder.row(split, self._place(count) | dict(metrics))
        self.pause()

    def pause(self) -> None:
        """Leave the time since the last micro-batch out of the throughput."""
        self._meter.pause()

    def finish(self, seed: int, objective: Objective, more: Mapping[str, Any] | None = None) -> float:
        """Write `result.json`, with `more`, and `curves.png`, show the summary; return the objective's value.

        Raises:
            ConfigError: every step was skipped, so that nothing was learnt.
        """
        if self._folder is None:
            check_some_update(self._wrappers)
            return self.metrics[objective.name]
        try:
            check_some_update(self._wrappers)
            result = result_of(
                self.metrics,
                self._wrappers,
                objective,
                seed=seed,
                micro_batches=self._count,
                seconds=self._seconds(),
            )
            self._folder.finish(result | dict(more or {}))
        finally:
            self._folder.close("failed")  # unless `finish` has ended them
        return self.metrics[objective.name]

    def where(self) -> str:
        """Name the update that is being made."""
        return self.plan.place_of(self._count + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to go on with these records; the rows so far are on disk then."""
        own = {"seconds": self._seconds(), "metrics": dict(self.metrics), "meter": self._meter.state_dict()}
        return own if self._folder is None else own | self._folder.sync()

    def saved(self) -> None:
        """Send trackers the rows that the last `state_dict` knew: the checkpoint that holds it is on disk."""
        if self._folder is not None:
            self._folder.saved()

    def artifacts(self, paths: Iterable[Path]) -> None:
        """Send trackers files of the run's folder, such as pictures that a task drew."""
        if self._folder is not None:
            for path in paths:
                self._folder.artifact(path)

    def _resume(self, folder: Path, state: Mapping[str, Any]) -> None:
        try:
            numbers = [state["rows"], state["columns"], float(state["seconds"])]
            if any(number < 0 for number in numbers) or not all(type(number) is int for number in numbers[:2]):
                raise ValueError(f"rows, columns and seconds are {numbers}")
            self._seconds_before = numbers[2]
            self.metrics = dict(state["metrics"])
            self._meter.load_state_dict(state["meter"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{folder}: the checkpoint's records cannot be read: {error!r}.") from error

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _place(self, count: int) -> dict[str, float | int | None]:
        return {
            "epoch": self.plan.epoch_of(count),
            "update": self.plan.update_after(count),
            "seconds": round(self._seconds(), 3),
        }

    def _optimizer_columns(self) -> dict[str, float | int | None]:
        columns: dict[str, float | int | None] = {}
        for name, wrapper in self._wrappers.items():
            norm = self._grad_norms[f"{name}grad_norm"].value
            columns[f"{name}lr"] = wrapper.get_lr()["lr"][self._base_groups[name]]
            columns[f"{name}grad_norm"] = None if norm is None else norm.item()
            columns[f"{name}skipped_steps"] = wrapper.skipped_steps
        return columns


def _number(value: Tensor | float | int | None) -> float | int | None:
    return value.item() if isinstance(value, Tensor) else value
