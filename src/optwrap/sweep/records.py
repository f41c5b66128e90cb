"""A job's own record on disk: what it was told, how it stands, what came out."""

import os
import socket
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, get_type_hints

from optwrap.argument_types import fits
from optwrap.files import new_folder, read_mapping, write_json
from optwrap.lock import LOCK, is_locked

RECORD = "record.json"
RESULT = "result.json"
EARLIER = "earlier"
_ASIDE = {RECORD: "earlier_record.json", ".hydra": "hydra"}
UNFINISHED = ("failed", "interrupted", "killed")


@dataclass(frozen=True)
class Record:
    """How a job stands; times are in seconds, `started` since 1970.

    `status` is running, finished, failed, interrupted (Ctrl-C, or asked to stop) or killed. `sweep` is the call of
    the program that last dealt with the job. `objective` is empty until the end where the task says it.
    """

    status: str = "running"
    overrides: list[str] = field(default_factory=list)
    objective: str = ""
    metric: float | None = None
    duration: float | None = None
    attempts: int = 0
    error: str = ""
    host: str = ""
    pid: int = 0
    started: float = 0.0
    sweep: str = ""

    def begun(self, overrides: list[str], objective: str, sweep: str) -> Self:
        """Return the record of the next attempt."""
        return replace(
            self,
            status="running",
            overrides=overrides,
            objective=objective,
            attempts=self.attempts + 1,
            metric=None,
            duration=None,
            error="",
            host=socket.gethostname(),
            pid=os.getpid(),
            started=time.time(),
            sweep=sweep,
        )

    def ended(self, status: str, *, objective: str = "", metric: float | None = None, error: str = "") -> Self:
        """Return the record of an attempt that is over; `objective` is what its result names, if it does."""
        return replace(
            self,
            status=status,
            objective=objective or self.objective,
            metric=metric,
            error=error,
            duration=round(time.time() - self.started, 2),
        )

    def seen_by(self, sweep: str) -> Self:
        """Return the record of a finished job that another call of the sweep came by."""
        return replace(self, sweep=sweep)

    def runs(self, folder: Path) -> bool:
        """Whether the process that wrote this is at it, wherever it is; `folder` is the record's own."""
        here = (self.pid, self.host) == (os.getpid(), socket.gethostname())
        return here or is_locked(folder)


def read_record(folder: Path) -> Record | None:
    """Return the record in `folder`; None where there is none, or what is there is no record."""
    content, known = read_mapping(folder / RECORD), get_type_hints(Record)
    if not all(fits(content.get(name), known[name]) for name in known):
        return None
    if not all(isinstance(override, str) for override in content["overrides"]):
        return None
    return Record(**{name: content[name] for name in known})


def read_result(folder: Path) -> dict[str, Any]:
    """Return what the job in `folder` wrote of its results; empty where there are none, or they are damaged."""
    return read_mapping(folder / RESULT)


def write_record(folder: Path, record: Record) -> None:
    """Write the record whole or not at all; only who holds the lock of the folder may."""
    write_json(folder / RECORD, asdict(record))


def set_aside(folder: Path) -> None:
    """Move what a finished job has left into `earlier/N` below, where nothing takes it for a job.

    The log stays: it is open, and goes on. Only who holds the lock of the folder may.
    """
    aside = new_folder(folder / EARLIER / "1")
    for path in folder.iterdir():
        if path.name not in (EARLIER, LOCK) and path.suffix != ".log":
            path.rename(aside / _ASIDE.get(path.name, path.name))


def current(folder: Path) -> Record | None:
    """Return the record in `folder`; one that says running while nobody holds the lock has been killed."""
    record = read_record(folder)
    if record is None or record.status != "running" or record.runs(folder):
        return record
    # Read again: it may have ended between the two looks.
    again = read_record(folder)
    return replace(again, status="killed") if again and again.status == "running" else again


def records(sweep: Path) -> dict[Path, Record]:
    """Return the records below a sweep's folder, in the order in which the jobs were started."""
    found = {path.parent: current(path.parent) for path in sweep.rglob(RECORD)}
    there = {folder: record for folder, record in found.items() if record is not None}
    return dict(sorted(there.items(), key=lambda item: (item[1].started, item[0])))


def records_of(folder: Path, sweep: str) -> dict[Path, Record]:
    """Return those of the records below a sweep's folder that one call of the sweep has dealt with."""
    return {path: record for path, record in records(folder).items() if record.sweep == sweep}
