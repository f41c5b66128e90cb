"""Where metrics rows are recorded: each logger has `log(split, row)` and `close()`."""

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from optwrap.errors import ConfigError

Value = float | int | None


class CsvLogger:
    """Rows of metrics in a CSV file, `split` first, readable at any moment.

    A None is an empty cell, a NaN the word `nan`. A row with new columns adds them on the right and leaves
    earlier rows empty there. An existing file is continued: a resumed run appends to its own rows.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.columns = ["split"]
        if self.path.exists() and self.path.stat().st_size:
            self._rewrite([])  # also ends a last line that a crash cut short
        else:
            self._file = self.path.open("w", newline="")
            csv.writer(self._file).writerow(self.columns)
            self._file.flush()

    def log(self, split: str, row: Mapping[str, Value]) -> None:
        """Append one row; it is on disk when this returns."""
        new = [column for column in row if column not in self.columns]
        if new:
            self._rewrite(new)
        cells = {"split": split, **row}
        csv.writer(self._file).writerow([_cell(cells.get(column)) for column in self.columns])
        self._file.flush()

    def close(self) -> None:
        """Close the file; the logger is then of no further use."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rewrite(self, new: list[str]) -> None:
        """Add columns: write a copy with them and rename it, so that no reader ever sees half a file."""
        if hasattr(self, "_file"):
            self._file.close()
        with self.path.open(newline="") as file:
            header, *rows = csv.reader(file)
        self.columns = [*header, *new]
        copy = self.path.with_name(self.path.name + ".tmp")
        with copy.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            writer.writerows([*row, *[""] * (len(self.columns) - len(row))] for row in rows)
        os.replace(copy, self.path)
        self._file = self.path.open("a", newline="")


class TensorBoardLogger:
    """Rows of metrics as TensorBoard scalars `split/name` over updates, in `directory`."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                'logger=tensorboard needs the package tensorboard: pip install -e ".[tensorboard]", '
                "or choose logger=csv."
            ) from error
        self._writer = SummaryWriter(str(directory))

    def log(self, split: str, row: Mapping[str, Value]) -> None:
        """Add each number of the row at the step `row['update']`; None is left out."""
        step = int(row.get("update") or 0)
        for name, value in row.items():
            if value is not None and name != "update":
                self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Write out what is pending."""
        self._writer.close()


def _cell(value: str | Value) -> str:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.10g}"
    return "" if value is None else str(value)
