"""What a run leaves on disk and shows on the way."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from optwrap.errors import ConfigError
from optwrap.files import write_json
from optwrap.optim import OptimWrapper, OptimWrapperDict, format_table, write_csv
from optwrap.optim.wrapper_dict import named_wrappers
from optwrap.plan.objective import Objective
from optwrap.plan.plan import Plan
from optwrap.plan.ranks import ALONE, Ranks
from optwrap.record.loggers import CsvLogger, TensorBoardLogger
from optwrap.record.meters import GradNorm, TrainMeter
from optwrap.record.plots import plot_curves
from optwrap.record.progress import Progress, summary
from optwrap.record.result import UNSHOWN, result_of

logger = logging.getLogger(__name__)

FILES = {
    "log": "train.log",
    "metrics": "metrics.csv",
    "result": "result.json",
    "param groups": "param_groups.csv",
    "curves": "curves.png",
    "checkpoint": "checkpoint.pt",
    "status": "status.json",
}


class Recorder:
    """Collects a run's metrics and writes them to its folder; a context manager around the loop.

    `resumed` is what `state_dict` returned at the checkpoint that the run goes on from.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        optim_wrapper: OptimWrapper | OptimWrapperDict,
        *,
        train_rows: bool,
        tensorboard: bool,
        resumed: Mapping[str, Any] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.folder = folder
        self._ranks = ranks
        self.plan = plan
        self.wrappers = named_wrappers(optim_wrapper)
        self.metrics: dict[str, float] = {}
        self._train_rows = train_rows
        self._meter = TrainMeter()
        self._grad_norms = {
            f"{name}grad_norm": GradNorm(wrapper, plan.logs_update) for name, wrapper in self.wrappers.items()
        }
        self._count = plan.start.micro_batches
        state: Mapping[str, Any] = resumed or {"rows": 0, "columns": 1, "seconds": 0.0}
        if resumed:
            self._resume(resumed)
        self._seconds_before = state["seconds"]
        self._csv = CsvLogger(folder / FILES["metrics"], state["rows"], state["columns"])
        if self._csv.rows < state["rows"]:
            missing = state["rows"] - self._csv.rows
            logger.warning("%s lacks %d rows that it had at the checkpoint.", self._csv.path, missing)
        self._loggers: list[Any] = [self._csv]
        if tensorboard:
            begun = plan.update_after(self._count) if resumed else None
            self._loggers.append(TensorBoardLogger(folder / "tensorboard", begun))
        self._progress = Progress(plan.updates)
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._write_param_groups()
        self._progress.__enter__()
        self._started = time.monotonic()
        if not self._seconds_before:
            self._meter.start()
        self._write_status("running")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)
        for each in self._loggers:
            each.close()
        for grad_norm in self._grad_norms.values():
            grad_norm.close()
        if error is not None:
            self._write_status("interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed")

    def train_step(self, stats: Mapping[str, Tensor], samples: int, count: int) -> None:
        """Take in one micro-batch; every `log_every` updates, read the device and write a training row."""
        self._count = count
        self._meter.add(stats, samples)
        self._progress.advance(self.plan.update_after(count))
        if not self.plan.logs_after(count):
            return
        means, images_per_second = self._meter.read()
        means, images_per_second = self._ranks.mean(means), images_per_second * self._ranks.size
        row = self._place(count) | means | self._optimizer_columns() | {"images_per_second": images_per_second}
        self._progress.log("train", row)
        if self._train_rows:
            self._write("train", row)
        self._meter.start()

    def evaluation(self, split: str, metrics: Mapping[str, float], count: int) -> None:
        """Write a row of an evaluation; its metrics are in `result.json` as `split/name`."""
        row = self._place(count) | dict(metrics)
        self.metrics |= {f"{split}/{name}": value for name, value in metrics.items()}
        self._progress.log(split, row)
        self._write(split, row)
        self._meter.pause()

    def finish(self, seed: int, objective: Objective) -> float:
        """Write `result.json` and `curves.png`, show the summary; return the objective's value.

        Raises:
            ConfigError: every step was skipped, so that nothing was learnt.
        """
        result = result_of(
            self.metrics,
            self.wrappers,
            objective,
            seed=seed,
            micro_batches=self.plan.micro_batches,
            seconds=self._seconds(),
        )
        write_json(self.folder / FILES["result"], result)
        plot_curves(self.folder / FILES["metrics"], self.folder / FILES["curves"])
        self._write_status("finished")
        files = {what: self.folder / name for what, name in FILES.items() if what != "status"}
        shown = {name: value for name, value in result.items() if name not in UNSHOWN}
        summary(shown, {"folder": self.folder} | files)
        return self.metrics[objective.name]

    def where(self) -> str:
        """Name the update that is being made."""
        return self.plan.place_of(self._count + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to go on with these records; the rows so far are on disk then."""
        for each in self._loggers:
            each.sync()
        return {
            "rows": self._csv.rows,
            "columns": len(self._csv.columns),
            "seconds": self._seconds(),
            "metrics": dict(self.metrics),
            "meter": self._meter.state_dict(),
        }

    def _resume(self, state: Mapping[str, Any]) -> None:
        """Take what a checkpoint holds, before any file is touched."""
        try:
            numbers = [state["rows"], state["columns"], float(state["seconds"])]
            if any(number < 0 for number in numbers) or not all(type(number) is int for number in numbers[:2]):
                raise ValueError(f"rows, columns and seconds are {numbers}")
            self.metrics = dict(state["metrics"])
            self._meter.load_state_dict(state["meter"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self.folder}: the checkpoint's records cannot be read: {error!r}.") from error

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _write_status(self, status: str) -> None:
        """Say how the run stands, to people and to programs that look at many."""
        update = self.plan.update_after(self._count)
        content = {"status": status, "update": update, "updates": self.plan.updates}
        write_json(self.folder / FILES["status"], content)

    def _place(self, count: int) -> dict[str, float | int | None]:
        return {
            "epoch": self.plan.epoch_of(count),
            "update": self.plan.update_after(count),
            "seconds": round(self._seconds(), 3),
        }

    def _optimizer_columns(self) -> dict[str, float | int | None]:
        columns: dict[str, float | int | None] = {}
        for name, wrapper in self.wrappers.items():
            norm = self._grad_norms[f"{name}grad_norm"].value
            columns[f"{name}lr"] = wrapper.get_lr()["lr"][0]
            columns[f"{name}grad_norm"] = None if norm is None else norm.item()
            columns[f"{name}skipped_steps"] = wrapper.skipped_steps
        return columns

    def _write(self, split: str, row: Mapping[str, Any]) -> None:
        for each in self._loggers:
            each.log(split, row)

    def _write_param_groups(self) -> None:
        assignments = [each for wrapper in self.wrappers.values() for each in wrapper.assignments]
        write_csv(assignments, self.folder / FILES["param groups"])
        groups = sum(len(wrapper.param_groups) for wrapper in self.wrappers.values())
        title = f"{len(assignments)} parameters in {groups} param group{'s' * (groups != 1)}"
        shown = {"terminal": f"{title}: {FILES['param groups']}"}
        logger.info("%s:\n%s", title, format_table(assignments), extra=shown)
