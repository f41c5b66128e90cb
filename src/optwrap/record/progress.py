"""What the user sees of a run: a live bar on a terminal, plain lines anywhere else, both also in the log file.

Everything goes through `logging`. On a terminal a `ConsoleHandler` prints above the live bar.
"""

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import rich
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

logger = logging.getLogger(__name__)

Value = float | int | None
Row = Mapping[str, Value]

FORMATS = {
    "loss": ".4f",
    "accuracy": ".4f",
    "grad_norm": ".3f",
    "lr": ".3g",
    "seconds": ".1f",
}
LABELS = {"grad_norm": "grad norm", "skipped_steps": "skipped steps"}
_SPEED = "_per_second"


def is_speed(name: str) -> bool:
    """Whether a column is the run's own speed, `images_per_second`, and no hook's."""
    return name.endswith(_SPEED) and "/" not in name


class ConsoleHandler(logging.Handler):
    """A logging handler for the terminal that prints above a live `Progress` instead of through it.

    Name it by class in Hydra's `job_logging`. A record may carry `extra={"terminal": renderable}`, which a
    terminal shows in place of the message, or `{"terminal": None}`, which a terminal does not show. Where the
    output is no terminal, every record is one plain line.
    """

    def __init__(self, console: Console | None = None, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        console = self._console or rich.get_console()
        try:
            shown: RenderableType | None = self._text(record)
            if console.is_interactive and hasattr(record, "terminal"):
                shown = record.terminal
            if shown is not None:
                # soft_wrap: a path or a number cut in two by a line break cannot be copied or searched for.
                console.print(shown, soft_wrap=isinstance(shown, Text))
        except Exception:  # as every handler of logging does: a log line never ends a run
            self.handleError(record)

    def _text(self, record: logging.LogRecord) -> Text:
        style = "red" if record.levelno >= logging.ERROR else "yellow"
        return Text(self.format(record), style=style if record.levelno >= logging.WARNING else "")


class Progress:
    """The display of one run, as a context manager.

    `log(split, row)` shows a row of metrics: on a terminal a training row moves the bar, other rows are printed
    above it; elsewhere each row is a line. All rows go to the log file. `live=False` forces plain lines, e.g.
    for runs that share a terminal.
    """

    def __init__(self, total_updates: int, *, console: Console | None = None, live: bool | None = None) -> None:
        self.total_updates = total_updates
        self.update = 0
        self._console = console or rich.get_console()
        self._row: Row = {}
        self._started = time.monotonic()
        self._first_update: int | None = None
        self._live: Live | None = None
        if self._console.is_interactive if live is None else live:
            self._live = Live(self, console=self._console, transient=True)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def log(self, split: str, row: Row) -> None:
        """Show one row of `split` (train, val or test)."""
        if split == "train":
            self._row = row
            self.advance(int(row.get("update") or 0))
        line = self._line(split, row)
        terminal = None if split == "train" and self._live is not None else line
        logger.info("%s", line.plain, extra={"terminal": terminal})

    def __rich__(self) -> RenderableType:
        """Return the live display: the bar, and below it the latest training metrics."""
        bar = Table.grid(padding=(0, 2, 0, 0))
        epoch = self._row.get("epoch")
        bar.add_row(
            Text(f"epoch {epoch}" if epoch is not None else "starting", style="bold"),
            ProgressBar(total=self.total_updates, completed=self.update, width=32),
            f"{self.update:,} of {self.total_updates:,} updates",
            Text(f"{duration(time.monotonic() - self._started)} gone", style="dim"),
            Text(f"{self._time_left()} left", style="cyan"),
        )
        return Group(bar, _metrics({name: cell for name, cell in self._row.items() if name != "seconds"}))

    def advance(self, update: int) -> None:
        """Move the bar; cheap enough for every update."""
        if update == self.update:
            return
        self.update = update
        self._last = time.monotonic()
        if self._first_update is None:
            # A resumed run starts late, and the first update pays for warming up: the clock starts after it.
            self._first_update, self._since = self.update, self._last

    def _time_left(self) -> str:
        if self._first_update is None or self.update <= self._first_update:
            return "?"
        pace = (self._last - self._since) / (self.update - self._first_update)
        return duration(pace * (self.total_updates - self.update) - (time.monotonic() - self._last))

    def _line(self, split: str, row: Row) -> Text:
        style = {"val": "bold green", "test": "bold magenta"}.get(split, "bold")
        place = Text.assemble((f"{split:<5}", style))
        if row.get("epoch") is not None:
            place.append(f"  epoch {row['epoch']:>3}")
        if row.get("update") is not None:
            width = len(str(self.total_updates))
            place.append(f"  update {row['update']:>{width}}/{self.total_updates}")
        line = place.append("  ").append_text(_metrics(row))
        if split == "train":
            line.append(f"  {self._time_left()} left")
        return line


def summary(results: Mapping[str, Value | str], files: Mapping[str, str | os.PathLike[str]]) -> None:
    """Log the table that ends a run: `results` (test/accuracy, updates, seconds, ...), then where its files are.

    `files` are paths by what they are; those that don't exist are left out.
    """
    present = {name: _short_path(path) for name, path in files.items() if Path(path).exists()}
    cells = {name: _format(name, value) for name, value in results.items()}
    width = max(map(len, [*cells, *present]), default=0)
    lines = [f"  {name:<{width}}  {cell}" for name, cell in {**cells, **present}.items()]
    table = Table(show_header=False, title="Finished", title_justify="left", title_style="bold")
    for name, cell in cells.items():
        table.add_row(name, Text(cell, style="bold green" if name.startswith("test/") else ""))
    table.add_section()
    for name, path in present.items():
        table.add_row(name, Text(path, overflow="fold"))
    logger.info("%s", "\n".join(["Finished", *lines]), extra={"terminal": table})


def duration(seconds: float) -> str:
    """Return a time as a clock shows it.

    >>> duration(75), duration(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _metrics(row: Row) -> Text:
    text = Text()
    for name, cell in _cells(row):
        text.append("  " if text else "")
        text.append(f"{name} ", style="dim").append(cell)
    return text


def _cells(row: Row) -> Iterator[tuple[str, str]]:
    for name, value in row.items():
        no_skips = name == "skipped_steps" and not value
        if value is not None and name not in ("epoch", "update") and not no_skips:
            label = name.replace(_SPEED, "/s") if is_speed(name) else LABELS.get(name, name)
            yield label, _format(name, value)


def _format(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    kind = ",.0f" if is_speed(name) else FORMATS.get(name.rpartition("/")[2], ".4g")
    return format(value, kind) if math.isfinite(value) else str(value)


def _short_path(path: str | os.PathLike[str]) -> str:
    path = Path(path).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
