"""metrics.csv: the rows of a run, and what of them others are told."""

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
from optwrap.loggers.protocol import Row, Value


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
            header, *kept = _read(self.path)
            if header[:1] != ["split"]:
                raise ConfigError(f"{self.path}: its first column is not split. Move it away to go on.")
            self.columns = header[:columns]
        kept = [row[: len(self.columns)] for row in kept[:rows]]
        self.rows = len(kept)
        self._write(kept)

    def log(self, split: str, row: Row) -> None:
        """Append one row; it is on disk when this returns."""
        new = [column for column in row if column not in self.columns]
        if new:
            self._file.close()
            _, *rows = _read(self.path)
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

    def _write(self, rows: list[list[str]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows([*row, *[""] * (len(self.columns) - len(row))] for row in rows)
        write_text(self.path, text.getvalue())
        self._file = self.path.open("a", newline="", encoding="utf-8")


def read_rows(path: Path) -> list[tuple[str, dict[str, float | int]]]:
    """Return the rows of a file, each with its split, less empty cells.

    Raises:
        ConfigError: it is no CSV.
    """
    header, *rows = _read(path)
    return [(row[0], numbers(dict(zip(header[1:], row[1:], strict=False)))) for row in rows if row]


def as_written(row: Row) -> dict[str, float | int]:
    """Return a row as the file has it: what is told from memory is then what is read.

    >>> as_written({"update": 3, "loss": 1 / 3, "grad_norm": None})
    {'update': 3, 'loss': 0.3333333333}
    """
    return numbers({name: _cell(value) for name, value in row.items()})


def numbers(cells: Mapping[str, str]) -> dict[str, float | int]:
    """Return the numbers among the cells, whole ones as int."""
    found = {name: _number(cell) for name, cell in cells.items()}
    return {name: value for name, value in found.items() if value is not None}


def _read(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file)) or [["split"]]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is no CSV file ({error}). Move it away to go on.") from error


def _number(cell: str) -> Value:
    try:
        return int(cell) if cell.lstrip("-").isdecimal() else float(cell)
    except ValueError:  # an empty cell, or what somebody else has written there
        return None


def _cell(value: str | Value) -> str:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.10g}"
    return "" if value is None else str(value)
