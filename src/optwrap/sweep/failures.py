"""What the last lines of a sweep say: which jobs did not finish, why, and how to go on."""

import os
import shlex
from pathlib import Path

from optwrap.config.command_line import as_override
from optwrap.sweep.job import Sweep
from optwrap.sweep.names import label
from optwrap.sweep.progress import told_apart
from optwrap.sweep.records import UNFINISHED, records_of

MOST_TOLD = 300  # characters of an error; all of it is in the job's record and log


def failures(folder: Path | None, sweep: Sweep) -> list[str]:
    """Return lines that name the jobs of this call that did not finish, and how to run them again."""
    if folder is None:
        return []
    mine = records_of(folder, sweep.name)
    bad = {path: record for path, record in mine.items() if record.status in UNFINISHED}
    if not bad:
        return []
    lines = [f"{len(bad)} of {len(mine)} jobs did not finish:"]
    for path, record in bad.items():
        told = label(told_apart(record, mine.values()))
        lines.append(f"  {record.status:<11} {path.name}  {told}{_reason(record.error)}")
    return [*lines, again(folder)]


def again(folder: Path | None) -> str:
    """Return how a sweep is gone on with."""
    if folder is None:
        return ""
    shown = shlex.quote(override(os.path.relpath(folder)))
    return f"go on with the same command and {shown}: no finished job is run twice"


def _reason(error: str) -> str:
    """Return an error's first line; that of a syntax error stands below the place in its file."""
    said = [line for line in error.splitlines() if line.strip() and not line.startswith(" ")]
    return f": {said[0] if len(said[0]) <= MOST_TOLD else said[0][:MOST_TOLD] + '...'}" if said else ""


def override(folder: str | Path) -> str:
    """Return the override that sweeps in `folder`."""
    return as_override("hydra.sweep.dir", str(folder))
