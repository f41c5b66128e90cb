"""What a run leaves on disk and shows on the way."""

import logging
import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from optwrap.errors import ConfigError
from optwrap.files import write_json
from optwrap.optim import OptimWrapper, OptimWrapperDict, format_table, write_csv
from optwrap.run.evaluation import Objective
from optwrap.run.loggers import CsvLogger, TensorBoardLogger
from optwrap.run.meters import GradNorm, TrainMeter, peak_memory_mib
from optwrap.run.plan import Plan
from optwrap.run.plots import plot_curves
from optwrap.run.progress import Progress, summary

logger = logging.getLogger(__name__)

FILES = {
    "log": "train.log",
    "metrics": "metrics.csv",
    "result": "result.json",
    "param groups": "param_groups.csv",
    "curves": "curves.png",
    "checkpoint": "checkpoint.pt",
}


class Recorder:
    """Collects a run's metrics and writes them to its folder; a context manager around the loop."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        optim_wrapper: OptimWrapper | OptimWrapperDict,
        *,
        train_rows: bool,
        tensorboard: bool,
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.wrappers = named_wrappers(optim_wrapper)
        self.metrics: dict[str, float] = {}
        self._train_rows = train_rows
        self._meter = TrainMeter()
        self._grad_norms = {
            f"{name}grad_norm": GradNorm(wrapper, plan.logs_update) for name, wrapper in self.wrappers.items()
        }
        _claim(folder / FILES["metrics"])
        self._loggers: list[Any] = [CsvLogger(folder / FILES["metrics"])]
        if tensorboard:
            self._loggers.append(TensorBoardLogger(folder / "tensorboard"))
        self._progress = Progress(plan.updates)
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._write_param_groups()
        self._progress.__enter__()
        self._started = time.monotonic()
        self._meter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)
        for each in self._loggers:
            each.close()
        for grad_norm in self._grad_norms.values():
            grad_norm.close()

    def train_step(self, stats: Mapping[str, Tensor], samples: int, count: int) -> None:
        """Take in one micro-batch; every `log_every` updates, read the device and write a training row.

        Raises:
            ConfigError: a loss since the last row was NaN or inf.
        """
        self._meter.add(stats, samples, count)
        self._progress.advance(self.plan.update_after(count))
        if self.plan.evaluates_after(count):
            self._meter.check(self.plan)  # before a checkpoint replaces the last good one
        if not self.plan.logs_after(count):
            return
        means, images_per_second = self._meter.read(self.plan)
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
        for name, wrapper in self.wrappers.items():
            if wrapper.skipped_steps and not wrapper.updates:
                raise ConfigError(
                    f"optim_wrapper.{name}loss_scale: all {wrapper.skipped_steps} steps were skipped, since the "
                    "scaled gradients overflowed. Lower a static scale, leave it dynamic, or use amp_bf16."
                )
        result: dict[str, Any] = self.metrics | {
            "objective": objective.name,
            "higher_is_better": objective.higher_is_better,
            "seed": seed,
            # As the plan and the progress count them: by the longest window of several wrappers.
            "updates": min(wrapper.updates for wrapper in self.wrappers.values()),
            "skipped_steps": sum(wrapper.skipped_steps for wrapper in self.wrappers.values()),
            "micro_batches": self.plan.micro_batches,
            "seconds": round(time.monotonic() - self._started, 2),
            "peak_memory_mib": peak_memory_mib(self._device()),
        }
        unshown = ("objective", "higher_is_better", "micro_batches")
        shown = {name: value for name, value in result.items() if name not in unshown}
        result |= {"versions": _versions(), "device": str(self._device())}
        write_json(self.folder / FILES["result"], result)
        plot_curves(self.folder / FILES["metrics"], self.folder / FILES["curves"])
        summary(shown, {"folder": self.folder} | {what: self.folder / name for what, name in FILES.items()})
        return self.metrics[objective.name]

    def _place(self, count: int) -> dict[str, float | int | None]:
        return {
            "epoch": self.plan.epoch_of(count),
            "update": self.plan.update_after(count),
            "seconds": round(time.monotonic() - self._started, 3),
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

    def _device(self) -> torch.device:
        return next(iter(self.wrappers.values())).param_groups[0]["params"][0].device


def named_wrappers(optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, OptimWrapper]:
    """Return the wrappers by the prefix of their columns: '' for a single one, 'name.' for one of several."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        return {f"{name}.": wrapper for name, wrapper in optim_wrapper.items()}
    return {"": optim_wrapper}


def _claim(path: Path) -> None:
    """Create the file, or refuse a folder in which another run has written."""
    try:
        path.open("x").close()
    except FileExistsError as error:
        raise ConfigError(
            f"hydra.run.dir={path.parent}: this folder already holds a run. Choose another, or start again: by "
            "default its name is the time to the second."
        ) from error


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "hydra-core", "optwrap"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a copy of the template under another name
            continue
    return versions
