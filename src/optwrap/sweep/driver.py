"""A sweep as a whole, in the process that was called: its rounds, and what is said and written at its end."""

import logging
import os
import socket
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from optwrap.errors import ConfigError
from optwrap.lock import is_locked, locked
from optwrap.provenance.code import differing
from optwrap.provenance.record import recorded_files
from optwrap.sweep import report
from optwrap.sweep.callback import SweepFolder
from optwrap.sweep.failures import again, failures, override
from optwrap.sweep.job import Sweep
from optwrap.sweep.progress import SweepProgress
from optwrap.sweep.records import RECORD, Record, read_record, records_of, write_record

log = logging.getLogger(__name__)

Program = Callable[[Sweep], None]


def new_sweep(root: Path) -> Sweep:
    """Return the sweep of this call of the program; `root` is the project's folder."""
    return Sweep(name=uuid.uuid4().hex, root=root, pid=os.getpid(), host=socket.gethostname())


def run_sweep(program: Program, sweep: Sweep) -> list[str]:
    """Run Hydra's program; where it sweeps, until each job has been run, and report. Return the lines on failures.

    A killed worker may end the launcher and the jobs beside its own. Then the program is run again: without the
    jobs that died, then with one of them at a time, so that the one that kills is told from its neighbours.
    """
    folder = SweepFolder()
    try:
        with folder.filled_in(), SweepProgress(sweep.name, lambda: folder.path):
            _run_rounds(program, sweep, folder)
    except KeyboardInterrupt as interrupt:
        if not str(interrupt):  # jobs in other processes have not said how to go on
            interrupt.args = (again(folder.path),)
        raise
    except Exception as error:
        if folder.path is None or not (lines := failures(folder.path, sweep)):
            raise
        if any(record.status == "finished" for record in records_of(folder.path, sweep.name).values()):
            print("\n".join(lines), file=sys.stderr)
            raise
        log.warning("%s: %s", type(error).__name__, error)  # a search without a trial that has finished
    finally:
        _report(folder.path)
    _tell_stale(folder.path, sweep)
    return failures(folder.path, sweep)


def _tell_stale(folder: Path | None, sweep: Sweep) -> None:
    """Name the finished jobs that other code has made than there is now."""
    jobs = {} if folder is None else records_of(folder, sweep.name)
    stale = {job.name: differing(recorded_files(job), sweep.root) for job in jobs}
    if names := [name for name, files in stale.items() if files]:
        files = sorted({file for name in names for file in stale[name]})
        log.warning(
            "other code has made %d of the %d jobs (%s): %s changed since. sweep.stale=rerun runs them again.",
            *(len(names), len(jobs), _some(names), _some(files)),
        )


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _run_rounds(program: Program, sweep: Sweep, folder: SweepFolder) -> None:
    died = _round(program, sweep, folder)
    while died:
        log.warning("%s died with their worker; going on", ", ".join(sorted(_names(died))))
        if len(died) == 1:
            _record_killed(died.pop(), sweep)
            died = _round(program, sweep, folder)
            continue
        still = _round(program, replace(sweep, put_off=_names(died)), folder)
        if still > died:
            died = still
            continue
        for job in sorted(died):
            if job in _round(program, replace(sweep, put_off=_names(died - {job})), folder):
                _record_killed(job, sweep)
        died = _round(program, sweep, folder)


def _names(jobs: set[Path]) -> frozenset[str]:
    return frozenset(job.name for job in jobs)


def _round(program: Program, sweep: Sweep, folder: SweepFolder) -> set[Path]:
    """Run Hydra's program once; return the folders of this sweep's jobs that are neither running nor ended."""
    failed = None
    try:
        program(sweep)
    except Exception as error:
        failed = error
    if folder.path is not None:
        _pin(folder.path)
        if died := {path.parent for path in folder.path.rglob(RECORD) if _died(path.parent, sweep)}:
            return died
    if failed is not None:
        raise failed
    return set()


def _died(folder: Path, sweep: Sweep) -> bool:
    return _running(folder, sweep) is not None and not is_locked(folder)


def _running(folder: Path, sweep: Sweep) -> Record | None:
    """Return the record of a job that says it runs in this call of the sweep."""
    record = read_record(folder)
    ours = record is not None and (record.status, record.sweep) == ("running", sweep.name)
    return record if ours else None


def _pin(folder: Path) -> None:
    """Have a further round sweep in the same folder, whose name may hold the time."""
    if (typed := override(folder)) not in sys.argv:
        sys.argv.append(typed)


def _record_killed(folder: Path, sweep: Sweep) -> None:
    with locked(folder, wait=2.0):
        if record := _running(folder, sweep):
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
