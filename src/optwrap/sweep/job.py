"""One job of a sweep, in whatever process a launcher runs it."""

import logging
import math
import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from optwrap.errors import ConfigError
from optwrap.lock import BusyError, locked
from optwrap.provenance.code import differing
from optwrap.provenance.record import recorded_files
from optwrap.sweep import identity
from optwrap.sweep.records import Record, read_record, read_result, set_aside, write_record

log = logging.getLogger(__name__)

# Importing identity makes its resolver known to a worker.
__all__ = ["Sweep", "identity", "run_job", "show_warnings_only"]


@dataclass(frozen=True)
class Sweep:
    """One call of the program that sweeps, known to each of its jobs.

    `root` is the project's folder; `put_off` are jobs that are not to be run now.
    """

    name: str
    root: Path
    pid: int
    host: str
    put_off: frozenset[str] = frozenset()

    @property
    def runs_here(self) -> bool:
        """Whether this process is the one that was called, so that the terminal is the job's alone."""
        return (os.getpid(), socket.gethostname()) == (self.pid, self.host)


def run_job(
    task: Callable[[DictConfig], Any], cfg: DictConfig, sweep: Sweep, message: Callable[[Exception], str]
) -> float | None:
    """Run `task` once, however often the sweep is called; return its metric, None where it failed or is NaN.

    A finished job returns its stored metric. A failure is recorded, logged and shown, and is not raised: a sweeper
    would end the sweep, and no process pool carries every exception. `message` says what a user reads of it.

    Raises:
        ConfigError: another sweep is running this job.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    _check_folder_name(folder)
    if folder.name in sweep.put_off:
        return None
    show_warnings_only()
    if not sweep.runs_here:
        _settle_in_worker(sweep.root)
    before = read_record(folder)
    # A job of this very sweep may still run where a launcher gave up on it, or handed it out twice.
    ours = before is not None and before.sweep == sweep.name
    with _held(folder, wait=math.inf if ours else 2.0):
        before = read_record(folder) or Record()
        if before.sweep == sweep.name and before.status in ("failed", "killed"):
            return None
        if before.status == "finished" and _is_to_run_again(cfg, folder, sweep.root):
            set_aside(folder)
            metric = _attempt(task, cfg, folder, Record(), sweep, message)
        elif before.status == "finished":
            write_record(folder, before.seen_by(sweep.name))
            metric = before.metric
            log.info("finished before: %s %s", before.objective, metric)
        else:
            metric = _attempt(task, cfg, folder, before, sweep, message)
        # Sweepers of other packages take no NaN, and end; None is a job that failed.
        return None if metric is None or math.isnan(metric) else metric


def _is_to_run_again(cfg: DictConfig, folder: Path, root: Path) -> bool:
    """Whether a finished job is to run once more, as other code has made it and `sweep.stale` says so.

    Raises:
        ConfigError: other code has made it, and that is an error.
    """
    stale = str(OmegaConf.select(cfg, "sweep.stale", default="warn"))
    if stale == "warn":
        return False
    files = differing(recorded_files(folder), root)
    if files and stale == "error":
        raise ConfigError(
            f"sweep.stale=error: other code has made the finished job {folder.name}: {', '.join(files[:5])} "
            f"{'has' if len(files) == 1 else 'have'} changed since. sweep.stale=rerun runs such jobs again."
        )
    return bool(files)


def _attempt(
    task: Callable[[DictConfig], Any],
    cfg: DictConfig,
    folder: Path,
    before: Record,
    sweep: Sweep,
    message: Callable[[Exception], str],
) -> float | None:
    record = before.begun(list(HydraConfig.get().overrides.task), cfg.objective or "", sweep.name)
    write_record(folder, record)
    status, metric, error = "interrupted", None, ""
    try:
        value = task(cfg)
        metric = None if value is None else float(value)
        status = "finished"
    except (Exception, SystemExit) as failure:
        if launcher_asked(failure):
            raise
        said = _exit_message(failure) if isinstance(failure, SystemExit) else message(failure)
        _log_failure(failure, said, record.overrides)
        bug = said.startswith("Traceback")
        status, error = "failed", _bug(failure, said) if bug else said
    finally:  # on Ctrl-C too, and where a launcher stops its process
        # Where the config leaves it to the task, the result says what the metric is.
        objective = str(read_result(folder).get("objective", ""))
        write_record(folder, record.ended(status, objective=objective, metric=metric, error=error))
    return metric


@contextmanager
def _held(folder: Path, wait: float) -> Iterator[None]:
    """Hold the lock of the job's folder; a record is written by its holder only."""
    try:
        with locked(folder, wait):
            yield
    except BusyError as error:
        other = read_record(folder)
        where = f" (process {other.pid} on {other.host})" if other else ""
        raise ConfigError(
            f"{folder}: another process{where} is running this job. Wait for it, "
            "or choose another hydra.sweep.dir."
        ) from error


def launcher_asked(end: BaseException) -> bool:
    """Tell whether submitit's signal handler ends the process, to start the job again elsewhere."""
    if not isinstance(end, SystemExit):
        return False
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(end.__traceback__)]
    return any(module.startswith("submitit.") for module in modules)


def _bug(failure: BaseException, said: str) -> str:
    """Return the line that names a bug; that of a process which this one started stands in its message."""
    if not isinstance(failure, ConfigError):
        return "".join(traceback.format_exception_only(failure)).rstrip()
    return [line for line in said.splitlines() if line and not line.startswith((" ", "HYDRA_FULL_ERROR"))][-1]


def _exit_message(end: SystemExit) -> str:
    """Say what sys.exit() in a job was told; it ends the job, not the sweep."""
    return f"SystemExit: {end.code}" if isinstance(end.code, str) else f"SystemExit: exit code {end.code or 0}"


def _check_folder_name(folder: Path) -> None:
    sweep: Any = OmegaConf.to_container(HydraConfig.get().sweep, resolve=False)
    subdir = str(sweep["subdir"])
    if "optwrap.job_id" not in subdir:
        raise ConfigError(
            f"hydra.sweep.subdir={subdir}: jobs are told apart by their folders' names, so the name must hold "
            "${optwrap.job_id:}, as in conf/config.yaml."
        )
    # Not from where the job stands, which hydra.job.chdir moves.
    parent = Path(HydraConfig.get().runtime.cwd, HydraConfig.get().sweep.dir)
    if Path(os.path.abspath(parent)) not in folder.parents:
        raise ConfigError(f"hydra.sweep.subdir={subdir}: this leads out of the sweep's folder. Leave it out.")


def _log_failure(failure: BaseException, message: str, overrides: list[str]) -> None:
    """Show the message, and write it with the whole traceback into the job's log."""
    log.error("job failed: %s\n%s", " ".join(overrides), message)
    trace = (type(failure), failure, failure.__traceback__)
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, "its traceback:", (), trace)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def show_warnings_only() -> None:
    """Leave the terminal to the sweep, or to rank 0: what the job says is in its log."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.WARNING)


def _settle_in_worker(root: Path) -> None:
    """Make a launcher's process fit for a job as the process that was called is."""
    rich.get_console().is_interactive = False  # several live bars on one terminal overwrite each other
    if str(root) not in sys.path:  # experiments/ is there, from whatever folder the worker was started
        sys.path.insert(0, str(root))
    methods = multiprocessing.get_all_start_methods()
    if multiprocessing.get_start_method() not in methods:  # joblib's own, with which a DataLoader has no workers
        multiprocessing.set_start_method(methods[0], force=True)
