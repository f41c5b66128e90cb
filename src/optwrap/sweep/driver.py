"""A sweep as a whole, in the process that was called: its rounds, and what is said and written at its end."""

import logging
import os
import socket
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from optwrap.errors import ConfigError
from optwrap.lock import is_locked, locked
from optwrap.sweep import report
from optwrap.sweep.failures import failures, override
from optwrap.sweep.job import Sweep
from optwrap.sweep.progress import SweepProgress
from optwrap.sweep.records import RECORD, read_record, records, records_of, write_record

log = logging.getLogger(__name__)

Program = Callable[[Sweep], None]


def new_sweep(root: Path) -> Sweep:
    """Return the sweep of this call of the program; `root` is the project's folder."""
    return Sweep(name=uuid.uuid4().hex, root=root, pid=os.getpid(), host=socket.gethostname())


def sweep_folder() -> Path | None:
    """Return the folder that Hydra sweeps in; None where it does not, or not yet."""
    config: Any = HydraConfig.instance().cfg  # the whole composed config, whatever its annotation says
    if config is None or config.hydra.mode != RunMode.MULTIRUN:
        return None
    return Path(os.path.abspath(config.hydra.sweep.dir))


def run_sweep(program: Program, sweep: Sweep) -> list[str]:
    """Run Hydra's program; where it sweeps, until each job has been run, and report. Return the lines on failures.

    A killed worker may end the launcher and the jobs beside its own. Then the program is run again: without the
    jobs that died, then with one of them at a time, so that the one that kills is told from its neighbours.
    """
    HydraConfig.instance().cfg = None  # of an earlier program in this process
    try:
        with SweepProgress(sweep.name, sweep_folder):
            _run_rounds(program, sweep)
    except Exception as error:
        folder = sweep_folder()
        if folder is None or not (lines := failures(folder, sweep)):
            raise
        if any(record.status == "finished" for record in records_of(folder, sweep.name).values()):
            print("\n".join(lines), file=sys.stderr)
            raise
        log.warning("%s: %s", type(error).__name__, error)  # a search without a trial that has finished
    finally:
        _report(sweep_folder())
    return failures(sweep_folder(), sweep)


def _run_rounds(program: Program, sweep: Sweep) -> None:
    died = _round(program, sweep)
    while died:
        log.warning("%s died with their worker; going on", ", ".join(sorted(died)))
        if len(died) == 1:
            _record_killed(died.pop(), sweep)
            died = _round(program, sweep)
            continue
        still = _round(program, replace(sweep, put_off=frozenset(died)))
        if still > died:
            died = still
            continue
        for job in sorted(died):
            if job in _round(program, replace(sweep, put_off=frozenset(died - {job}))):
                _record_killed(job, sweep)
        died = _round(program, sweep)


def _round(program: Program, sweep: Sweep) -> set[str]:
    """Run Hydra's program once; return the jobs of this sweep that are neither running nor ended."""
    failed = None
    try:
        program(sweep)
    except Exception as error:
        failed = error
    folder = sweep_folder()
    if folder is not None:
        _pin(folder)
        if died := {path.parent.name for path in folder.rglob(RECORD) if _died(path.parent, sweep)}:
            return died
    if failed is not None:
        raise failed
    return set()


def _died(folder: Path, sweep: Sweep) -> bool:
    record = read_record(folder)
    ran = record is not None and (record.status, record.sweep) == ("running", sweep.name)
    return ran and not is_locked(folder)


def _pin(folder: Path) -> None:
    """Have a further round sweep in the same folder, whose name may hold the time."""
    if (typed := override(folder)) not in sys.argv:
        sys.argv.append(typed)


def _record_killed(job: str, sweep: Sweep) -> None:
    parent = sweep_folder()
    assert parent is not None
    (folder,) = (path for path in records(parent) if path.name == job)
    with locked(folder, wait=2.0):
        record = read_record(folder)
        if record is not None and (record.status, record.sweep) == ("running", sweep.name):
            write_record(folder, record.ended("killed", error="its process was killed"))


def _report(folder: Path | None) -> None:
    """Write the sweep's results and report, as far as there are any; a fault in it never hides the sweep's own."""
    if folder is None:
        return
    try:
        report.make_report(folder)
    except ConfigError as error:
        log.warning("no report: %s", error)
    except Exception:
        log.exception("no report")
