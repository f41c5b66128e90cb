"""How a sweep gets on: a line whenever a job has ended, wherever it ran."""

import math
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import rich
from rich.text import Text

from optwrap.files import read_json
from optwrap.sweep.names import label
from optwrap.sweep.records import RECORD, Record, read_record, read_result

INTERVAL = 1.0  # seconds between looks at the records


class SweepProgress:
    """Watches the records of one call of a sweep from a thread; a context manager around it.

    `folder` gives the sweep's folder, None as long as it is not known or where nothing is swept; `jobs` in its
    `sweep.json` is the number of jobs, where that can be known.
    """

    def __init__(self, sweep: str, folder: Callable[[], Path | None]) -> None:
        self._sweep = sweep
        self._folder = folder
        self._shown = 0
        self._started = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL):
            with suppress(OSError):  # a folder that a job has just removed; the next look does without it
                self._look()

    def _look(self) -> None:
        folder = self._folder()
        if folder is None:
            return
        # As they say they stand: whose lock is held cannot be asked in a process that holds one.
        found = {path.parent: read_record(path.parent) for path in folder.rglob(RECORD)}
        mine = {path: each for path, each in found.items() if each is not None and each.sweep == self._sweep}
        ended = sum(record.status != "running" for record in mine.values())
        if ended > self._shown:
            self._shown = ended
            line = progress_line(mine, planned_jobs(folder), time.monotonic() - self._started)
            rich.get_console().print(Text(line, style="bold cyan"), soft_wrap=True)


def progress_line(jobs: dict[Path, Record], total: int | None, seconds: float) -> str:
    """Return where a sweep stands after so many seconds: jobs ended, running, failed, time left, the best.

    >>> done = Record("finished", ["lr=1"], "val/loss", 0.5, 2.0)
    >>> progress_line({Path("a"): done, Path("b"): Record("failed")}, 4, 10)
    'sweep: 1 of 4 jobs finished, 1 failed, about 0:10 left'
    """
    counts = {status: [job.status for job in jobs.values()].count(status) for status in _STATUSES}
    of = f" of {total}" if total else ""
    parts = [f"{counts['finished']}{of} jobs finished"]
    parts += [f"{count} {status}" for status, count in counts.items() if count and status != "finished"]
    ended = len(jobs) - counts["running"]
    if total and 0 < ended < total:
        minutes, rest = divmod(round(seconds / ended * (total - ended)), 60)
        parts.append(f"about {minutes}:{rest:02} left")
    if found := _best(jobs):
        parts.append(found)
    return f"sweep: {', '.join(parts)}"


def planned_jobs(folder: Path) -> int | None:
    """Return how many jobs the sweep has, as far as it was known when it began."""
    try:
        jobs = read_json(folder / "sweep.json")["jobs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return jobs if isinstance(jobs, int) else None


def told_apart(job: Record, jobs: Collection[Record]) -> list[str]:
    """Return the overrides of one job that not all have.

    >>> told_apart(Record(overrides=["a=1", "b=2"]), [Record(overrides=["a=1", "b=2"]), Record(overrides=["a=1"])])
    ['b=2']
    """
    if len(jobs) < 2:
        return job.overrides
    shared = set.intersection(*(set(each.overrides) for each in jobs))
    return [override for override in job.overrides if override not in shared]


_STATUSES = ("finished", "running", "failed", "interrupted", "killed")


def _best(jobs: dict[Path, Record]) -> str:
    """Return the best job so far; nothing where its results do not say which way is up."""
    scores = {path: job for path, job in jobs.items() if job.metric is not None and math.isfinite(job.metric)}
    if not scores:
        return ""
    up = read_result(next(iter(scores))).get("higher_is_better")
    if not isinstance(up, bool):
        return ""
    job = (max if up else min)(scores.values(), key=lambda each: each.metric or 0.0)
    which = label(told_apart(job, jobs.values()))
    return f"best {job.objective} {job.metric:.4g}" + (f" ({which})" if which else "")
