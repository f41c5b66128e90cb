"""Short runs with hooks."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics import MeanMetric, MetricCollection

from optwrap.hooks import Run
from optwrap.hooks.hooks import Hooks
from optwrap.hooks.stopping import Stopping
from optwrap.optim import OptimWrapper
from optwrap.plan.calls import begin
from optwrap.plan.objective import Objective
from optwrap.plan.plan import Plan, accumulative_counts

QUICK = (
    *("data=fake", "data.size=40", "data.eval_size=8", "data.image_size=8", "data.augment=false", "batch_size=4"),
    *("log_every=5", "device=cpu", "deterministic=true"),
)
TIMES = {"seconds", "images_per_second"}
OWN = "tests.optwrap.hooks.own"


def rows(folder: Path, split: str | None = None) -> list[dict[str, str]]:
    """Return the rows of metrics.csv, less times."""
    with (folder / "metrics.csv").open() as file:
        found = [row for row in csv.DictReader(file) if split in (None, row["split"])]
    return [{name: cell for name, cell in row.items() if name not in TIMES} for row in found]


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


class ToyTask:
    """Cross entropy of a model; draws a random number in each step, as dropout does."""

    def __init__(self, model: nn.Module, weighted: bool = False) -> None:
        self.model, self.weighted = model, weighted
        self.metrics = MetricCollection({"loss": MeanMetric()})

    def train_step(self, batch: Any, optim_wrapper: OptimWrapper) -> dict[str, torch.Tensor]:
        torch.rand(())
        with optim_wrapper.optim_context(self.model):
            loss = F.cross_entropy(self.model(batch[0]).float(), batch[1])
        optim_wrapper.update_params(loss, weight=len(batch[0]) if self.weighted else None)
        return {"loss": loss.detach()}


class ToyRun:
    """A run of a toy model over a list of batches, with hooks, as the loop of train.py makes it."""

    def __init__(
        self,
        model: nn.Module,
        optim_wrapper: OptimWrapper,
        batches: Any,
        folder: Path,
        log_every: int = 1,
        **task: Any,
    ) -> None:
        self.batches, self.task, self.optim_wrapper = batches, ToyTask(model, **task), optim_wrapper
        counts = accumulative_counts(optim_wrapper)
        self.plan = Plan(len(batches), len(batches), counts, log_every, None)
        begin(optim_wrapper, model, len(batches))
        optim_wrapper.norm_is_due = self.plan.logs_update  # as the recorder has it
        self.given = Run(
            key="",
            model=model,
            optim_wrapper=optim_wrapper,
            task=self.task,
            plan=self.plan,
            objective=Objective("val/loss", self.task),
            folder=folder,
            device=torch.device("cpu"),
            batches=lambda first, last: (batches[i % len(batches)] for i in range(first, last)),
            batch_size=len(batches[0][0]),
            stopping=Stopping(),
        )

    def __call__(self, **hooks: Any) -> list[dict[str, Any]]:
        """Run to the end; return what the hooks gave to each training row."""
        called, rows = Hooks(hooks, self.given), []
        called.start(0)
        for count, batch in enumerate(called.until_stopped(self.batches), start=1):
            called.before_update(count)
            self.task.train_step(batch, self.optim_wrapper)
            called.after_update(count)
            if self.plan.logs_after(count):
                rows.append(dict(called.columns))
                called.columns.clear()
        called.end(len(self.batches))
        return rows
