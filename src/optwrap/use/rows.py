"""A task's predictions as rows: its columns checked, and written as they come."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optwrap.errors import ConfigError, first_line
from optwrap.files import csv_cell
from optwrap.use.samples import inputs_of

Columns = Mapping[str, Tensor]
CLASSES = ("target", "prediction")
"""Columns whose integers are classes."""


def predict_step(task: Any, batch: Any) -> dict[str, Tensor]:
    """Return what `task.predict_step(batch)` does, on the CPU, each a column (N) or several (N, K).

    Of a task without one it is `output`, what its model makes of the first part of the batch.

    Raises:
        ConfigError: these are no columns of equal length, or the model cannot be called so.
    """
    own = getattr(task, "predict_step", None)
    found = own(batch) if own else _output(task, batch)
    if not isinstance(found, Mapping) or not found:
        raise ConfigError(f"{_method(task)} returned {type(found).__name__}: it returns columns by name.")
    try:
        columns = {str(name): torch.as_tensor(each).detach().cpu() for name, each in found.items()}
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{_method(task)} returned a column that is no tensor ({first_line(error)}).") from error
    shapes = {name: tuple(each.shape) for name, each in columns.items()}
    if (
        any(each.ndim not in (1, 2) for each in columns.values())
        or len({shape[0] for shape in shapes.values()}) > 1
    ):
        raise ConfigError(
            f"{_method(task)} returned tensors of shape {shapes}: each has as many rows as the batch has "
            "samples, (N), or (N, K) for K columns."
        )
    return columns


def _method(task: Any) -> str:
    return f"predict_step(batch) of {type(task).__name__}"


def _output(task: Any, batch: Any) -> dict[str, Tensor]:
    inputs = inputs_of(batch)
    remedy = f"Give the task a method {_method(task)}, which returns columns by name."
    if inputs is None:
        raise ConfigError(f"a batch is a {type(batch).__name__}, and nothing says what the model gets. {remedy}")
    try:
        output = task.model(inputs)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"the model cannot be called with the first part of a batch ({first_line(error)}). {remedy}"
        ) from error
    if not isinstance(output, Tensor) or output.ndim not in (1, 2):
        shape = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(f"the model returned {shape}, which is no row of numbers for each sample. {remedy}")
    return {"output": output}


@dataclass(frozen=True)
class Rows:
    """Makes lines of CSV: the sample's number, its name where `name` gives one, then the task's columns.

    `classes` are names for the integers of the columns `target` and `prediction`, and for K columns of one name.
    """

    classes: Sequence[str] | None
    name: Callable[[int], str] | None

    def header(self, columns: Columns) -> str:
        """Return the line of the columns' names."""
        titles = ["index", *(["name"] if self.name else [])]
        for name, each in columns.items():
            titles += (
                [name] if each.ndim == 1 else [f"{name}_{self._label(k, each)}" for k in range(each.shape[1])]
            )
        return _csv([titles])

    def lines(self, columns: Columns, first: int) -> str:
        """Return a line for each sample of a batch, whose first is number `first` of the data."""
        cells = [list(self._cells(name, each)) for name, each in columns.items()]
        numbers = range(first, first + len(cells[0]))
        names: Iterator[list[str]] = ([self.name(number)] if self.name else [] for number in numbers)
        rows = zip(numbers, names, zip(*cells, strict=True), strict=True)
        return _csv([number, *name, *(cell for group in row for cell in group)] for number, name, row in rows)

    def class_name(self, number: int) -> str:
        """Return a class as it is shown."""
        return self.classes[number] if self.classes and 0 <= number < len(self.classes) else str(number)

    def _label(self, column: int, values: Tensor) -> str:
        return self.class_name(column) if self.classes and len(self.classes) == values.shape[1] else str(column)

    def _cells(self, name: str, values: Tensor) -> Iterator[list[str]]:
        if name in CLASSES and values.ndim == 1 and not values.is_floating_point():
            yield from ([self.class_name(number)] for number in values.tolist())
            return
        for row in values.unsqueeze(1).tolist() if values.ndim == 1 else values.tolist():
            yield [f"{value:.6g}" if isinstance(value, float) else str(int(value)) for value in row]


def _csv(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([csv_cell(cell) for cell in row] for row in rows)
    return text.getvalue()
