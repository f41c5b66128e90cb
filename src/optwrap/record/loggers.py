"""Where metrics rows are recorded: each logger has `log(split, row)` and `close()`."""

import csv
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from optwrap.errors import ConfigError
from optwrap.files import write_text

Value = float | int | None


class CsvLogger:
    """Rows of metrics in a CSV file, `split` first, readable at any moment.

    A None is an empty cell, a NaN the word `nan`. A row with new columns adds them on the right and leaves
    earlier rows empty there. An existing file is continued, after its first `rows` rows under its first
    `columns` columns where these are given: what a run wrote after its checkpoint is written again.

    Raises:
        ConfigError: the existing file is no CSV of metrics.
    """

    def __init__(self, path: str | os.PathLike[str], rows: int | None = None, columns: int | None = None) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.columns = ["split"]
        kept: list[list[str]] = []
        if rows != 0 and self.path.exists():
            header, *kept = self._read()
            if header[:1] != ["split"]:
                raise ConfigError(f"{self.path}: its first column is not split. Move it away to go on.")
            self.columns = header[:columns]
        kept = [row[: len(self.columns)] for row in kept[:rows]]
        self.rows = len(kept)
        self._write(kept)

    def log(self, split: str, row: Mapping[str, Value]) -> None:
        """Append one row; it is on disk when this returns."""
        new = [column for column in row if column not in self.columns]
        if new:
            self._file.close()
            _, *rows = self._read()
            self.columns += new
            self._write(rows)
        cells = {"split": split, **row}
        csv.writer(self._file).writerow([_cell(cells.get(column)) for column in self.columns])
        self._file.flush()
        self.rows += 1

    def sync(self) -> None:
        """Make the rows so far last through a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; the logger is then of no further use."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> list[list[str]]:
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                return list(csv.reader(file)) or [["split"]]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.path}: this is no CSV file ({error}). Move it away to go on.") from error

    def _write(self, rows: list[list[str]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows([*row, *[""] * (len(self.columns) - len(row))] for row in rows)
        write_text(self.path, text.getvalue())
        self._file = self.path.open("a", newline="", encoding="utf-8")


class TensorBoardLogger:
    """Rows of metrics as TensorBoard scalars `split/name` over updates, in `directory`."""

    def __init__(self, directory: str | os.PathLike[str], after_update: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            if error.name is not None and not f"{error.name}.".startswith(("tensorboard.", "torch.")):
                raise ConfigError(
                    f"logger=tensorboard: the package tensorboard is there, but cannot be loaded: {error}. "
                    "Install what it misses, or choose logger=csv."
                ) from error
            raise ConfigError(
                'logger=tensorboard needs the package tensorboard: pip install -e ".[tensorboard]", '
                "or choose logger=csv."
            ) from error
        purge = None if after_update is None else after_update + 1  # a resumed run writes those again
        self._writer = SummaryWriter(str(directory), purge_step=purge)

    def log(self, split: str, row: Mapping[str, Value]) -> None:
        """Add each number of the row at the step `row['update']`; None is left out."""
        step = int(row.get("update") or 0)
        for name, value in row.items():
            if value is not None and name != "update":
                self._writer.add_scalar(f"{split}/{name}", value, step)

    def sync(self) -> None:
        """Write out what is pending."""
        self._writer.flush()

    def close(self) -> None:
        """Write out what is pending, and end the file."""
        self._writer.close()


def _cell(value: str | Value) -> str:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.10g}"
    return "" if value is None else str(value)
