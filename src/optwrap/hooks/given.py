"""What a hook is given: the run, and what it may ask of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from optwrap.errors import ConfigError, did_you_mean
from optwrap.hooks.stopping import Stopping
from optwrap.optim import OptimWrapper, OptimWrapperDict, in_passes
from optwrap.plan.objective import Objective
from optwrap.plan.plan import Plan
from optwrap.plan.ranks import ALONE, Ranks

Value = Tensor | float | int | None


@dataclass
class Notes:
    """What hooks have recorded: columns of the training row to come, and entries of the result."""

    columns: dict[str, Value] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """The run as one hook sees it, whose name in the config is `key`.

    `batch_size` counts the samples of a micro-batch over all ranks, `count` the micro-batches that are done;
    `has_val` tells whether there is anything to evaluate on as the run goes;
    `batches(first, last)` yields the training batches from number `first` to before `last` of the run, on the
    device.
    """

    key: str
    model: nn.Module
    optim_wrapper: OptimWrapper | OptimWrapperDict
    task: Any
    plan: Plan
    objective: Objective
    folder: Path
    device: torch.device
    batches: Callable[[int, int], Iterator[Any]]
    stopping: Stopping
    batch_size: int
    notes: Notes = field(default_factory=Notes)
    ranks: Ranks = ALONE
    count: int = 0
    has_val: bool = True

    @property
    def update(self) -> int:
        """Updates that are done, skipped ones included."""
        return self.plan.update_after(self.count)

    @property
    def logs_next_update(self) -> bool:
        """Whether the next update to end is one with a training row, for which the run waits anyway."""
        return self.plan.logs_update(self.update + 1)

    def followed(self, metric: str | None, better: str | None = None) -> tuple[str, float]:
        """Return the name of a metric of the evaluation on val, and 1.0 where higher is better, else -1.0.

        `metric` None is that of the objective; `better` is min, max, or None for what the metric says.

        Raises:
            ConfigError: nothing is evaluated on val, there is no such metric, or nobody says which way is better.
        """
        if not self.has_val:
            raise ConfigError(f"hooks.{self.key} follows an evaluation on val, and data.val is missing or empty.")
        names = list(self.objective.directions)
        name = self.objective.metric if metric is None else metric.removeprefix("val/")
        if name not in names:
            raise ConfigError(
                f"hooks.{self.key}.metric={metric}: an evaluation on val has no such metric."
                f"{did_you_mean(name, names)} It has {', '.join(names)}."
            )
        told = {"min": False, "max": True}.get(better or "", self.objective.directions[name])
        if told is None:
            raise ConfigError(f"hooks.{self.key}.better: {name} does not say which way. Give min or max.")
        return name, 1.0 if told else -1.0

    def train_step(self, batch: Any) -> Mapping[str, Tensor]:
        """Let the task train on a batch, as the loop does; return its numbers."""
        step = partial(self.task.train_step, batch, self.optim_wrapper)
        return in_passes(self.model, self.optim_wrapper, step)

    def record(self, name: str, value: Value) -> None:
        """Give the next training row a column `KEY/name`; a tensor is read when the row is written."""
        self.notes.columns[f"{self.key}/{name}"] = value.detach() if isinstance(value, Tensor) else value

    def result(self, name: str, value: Any) -> None:
        """Give `result.json` an entry `KEY/name`, of plain values."""
        self.notes.results[f"{self.key}/{name}"] = value

    def stop(self, reason: str) -> None:
        """End the run as if its plan ended here: it is saved, evaluated on val and test, and says why.

        Of several ranks one is enough. They agree at once before the first micro-batch and after an evaluation;
        after an update, one update later.
        """
        self.stopping.ask(f"{self.key}: {reason}")
