"""Rows on their way to a logger that may fail or hang: in a thread of its own, each row once."""

import csv
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from optwrap.errors import first_line
from optwrap.loggers.protocol import Logger, Place, Run

logger = logging.getLogger(__name__)

LoggedRow = tuple[str, Mapping[str, float | int]]
FOLDER = "loggers"


class Delivery:
    """Hands a run's rows to one logger, which the run waits for at its end alone, `wait` seconds at most.

    Rows are kept until `deliver` is told that they stay, unless `live`. Where the logger fails, or does not answer
    for so long, one warning says so; after a failure it is told nothing more.
    """

    def __init__(self, key: str, target: Logger, run: Run, live: bool = False, wait: float = 10.0) -> None:
        self.key, self._logger, self._run = key, target, run
        self._live, self._wait = live, wait
        self._kept: list[tuple[int, LoggedRow]] = []
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=f"logger.{key}", daemon=True)
        self._since: float | None = None
        self._told: Counter[Place] = Counter()
        self._has_failed = self._has_warned = False
        self._journal: _Journal | None = None

    def begin(self, rows: Sequence[LoggedRow]) -> None:
        """Start the logger; `rows` are those of earlier parts of the run, which it is sent where it lacks them."""
        self._thread.start()
        self._tasks.put(self._start)
        if rows:
            self._tasks.put(lambda: self._send(rows))

    def log(self, number: int, row: LoggedRow) -> None:
        """Take in the run's row of this number, counted from 1."""
        if self._has_failed:
            return
        if self._live:
            self._tasks.put(lambda: self._send([row]))
        else:
            self._kept.append((number, row))

    def deliver(self, number: int | None = None) -> None:
        """Send the rows up to this number, which a checkpoint now holds; None: all."""
        rows = [row for at, row in self._kept if number is None or at <= number]
        self._kept = self._kept[len(rows) :]
        if rows and not self._has_failed:
            self._tasks.put(lambda: self._send(rows))
        since = self._since
        if since is not None and time.monotonic() - since > self._wait:
            self._warn(f"it has not answered for {time.monotonic() - since:.0f} s. The run goes on without it")

    def artifact(self, path: Path) -> None:
        """Send a file of the run's folder."""
        self._tasks.put(lambda: self._logger.artifact(path))

    def close(self, status: str) -> None:
        """Let the logger end after what it was sent; `join` waits for it."""
        self._tasks.put(lambda: self._logger.close(status))
        self._tasks.put(None)

    def join(self, since: float) -> None:
        """Wait for the logger's end, until `wait` seconds after the time `since`."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, since + self._wait - time.monotonic()))
        if self._has_failed or self._thread.is_alive():
            with suppress(Exception):
                getattr(self._logger, "abandon", _nothing)()
        if self._thread.is_alive():
            self._warn(f"it did not end within {self._wait:g} s. What it lacks is sent at a resume of the run")

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self._has_failed:
                continue
            self._since = time.monotonic()
            try:
                task()
            except BaseException as error:  # a package that calls sys.exit must not end it in silence either
                self._has_failed = True
                self._warn(f"{type(error).__name__}: {first_line(error)}. It is told nothing more")
            self._since = None

    def _start(self) -> None:
        there = self._logger.start(self._run)
        if there is None:
            self._journal = _Journal(self._run.folder / FOLDER / f"{self.key}.csv")
            there = self._journal.places
        self._told = Counter(there)

    def _send(self, rows: Sequence[LoggedRow]) -> None:
        for split, row in rows:
            where = split, int(row.get("update", 0))
            if self._told[where]:
                self._told[where] -= 1
                continue
            self._logger.log(split, row)
            if self._journal is not None:
                self._journal.add(where)
        self._logger.sync()

    def _warn(self, reason: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning("logger.%s: %s. metrics.csv has every row.", self.key, reason)


def _nothing() -> None:
    pass


class _Journal:
    """What a logger was sent, in a file, for one that cannot tell what it has."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a kill may have cut the last line short
        self.places = [(split, int(update)) for split, update in csv.reader(whole.splitlines())]
        path.write_text(whole, encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def add(self, place: Place) -> None:
        self._file.write(f"{place[0]},{place[1]}\n")
        self._file.flush()
