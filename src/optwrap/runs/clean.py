"""Which runs may go, and how much room that makes."""

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from optwrap.lock import BusyError, locked
from optwrap.runs.read import Run


def removable(runs: Sequence[Run], keep: Iterable[Path] = (), best: int = 1) -> list[Run]:
    """Return which of the runs may go: finished ones, less the best of each objective and what `keep` names.

    What has not finished stays, since it can be gone on with. `best` is how many of the best stay.
    """
    kept = {path.resolve() for path in keep}
    stay = {run.folder for run in _best(runs, best)}
    return [
        run
        for run in runs
        if run.status == "finished"
        and run.folder not in stay
        and kept.isdisjoint([run.folder.resolve(), *run.folder.resolve().parents])
    ]


def remove(folders: Iterable[Path]) -> list[Path]:
    """Remove the folders of runs; return those that another process works in, which stay."""
    busy = []
    for folder in folders:
        try:
            with locked(folder):
                shutil.rmtree(folder)
        except BusyError:
            busy.append(folder)
        else:
            with suppress(OSError):  # the day that it was of, where it was the last
                folder.parent.rmdir()
    return busy


def size_of(folder: Path) -> int:
    """Return the bytes that a folder's files hold; those of several names once."""
    seen: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                stat = os.lstat(os.path.join(place, name))
                seen[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(seen.values())


def _best(runs: Sequence[Run], count: int) -> list[Run]:
    """Return the best runs of each objective; where nobody says which way is better, all."""
    by_objective: dict[str, list[Run]] = {}
    for run in runs:
        if run.objective is not None:
            by_objective.setdefault(str(run.result["objective"]), []).append(run)
    found = []
    for group in by_objective.values():
        directions = {run.result.get("higher_is_better") for run in group}
        if directions == {True}:
            found += sorted(group, key=lambda run: -(run.objective or 0.0))[:count]
        elif directions == {False}:
            found += sorted(group, key=lambda run: run.objective or 0.0)[:count]
        else:
            found += group
    return found
