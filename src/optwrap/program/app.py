"""Hydra's program with this project's schemas, and errors that say what to put right."""

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from optwrap.config import help as help_page
from optwrap.config import resuming, store
from optwrap.config.command_line import CommandLine, check_swept_once
from optwrap.config.messages.explain import check_complete, explain
from optwrap.config.messages.frames import short_traceback
from optwrap.config.origin import with_saved_origin
from optwrap.config.saved_overrides import check_composed
from optwrap.errors import ConfigError
from optwrap.hydra_versions import VERSION_BASE, declared_targets, register_resolver
from optwrap.program import failures
from optwrap.program.entry import FULL_ERROR, Task
from optwrap.program.folder import DIR, check_still_there, claim_folder, dropped_start, open_folder
from optwrap.program.interruption import exit_code, how_to_go_on, not_mangled, output_is_read, reader_gone
from optwrap.program.launch import RankDiedError, run_or_launch
from optwrap.program.nodes import Nodes
from optwrap.program.own_targets import take_typed, with_new_keys
from optwrap.program.processes import (
    Processes,
    arguments_of_rank,
    joined,
    rank_suffix,
    shares_the_terminal,
    started_by_torchrun,
)
from optwrap.sweep.asked import check_asked
from optwrap.sweep.driver import new_sweep, run_sweep
from optwrap.sweep.failures import again
from optwrap.sweep.job import Sweep, run_job, show_warnings_only

log = logging.getLogger(__name__)


def run(task: Task, script: Path, conf: Path, config_name: str) -> Any:
    """Run `task`, whose file is `script`, on the config that the command line composes from the folder `conf`.

    `entry.main` says how it ends.
    """
    typed = sys.argv[1:]
    try:
        check_swept_once(sys.argv[1:])
        sys.argv[1:] = resuming.with_saved_overrides(typed)
        saved = [each for each in sys.argv[1:] if each not in typed]
        if (folder := resuming.resumed(typed)) is not None:
            sys.argv[1:] = with_saved_origin(sys.argv[1:], folder, conf, config_name)
        sys.argv[1:] = arguments_of_rank(with_new_keys(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(_say(str(error), code=1))
    line = CommandLine(conf, config_name, _typed_overrides(sys.argv[1:]))
    store.register()
    help_page.register_resolvers(conf)
    register_resolver("optwrap.rank_suffix", rank_suffix)
    arguments: dict[str, Any] = VERSION_BASE | declared_targets("execution_whitelist")
    program = hydra.main(config_path=str(conf), config_name=config_name, **arguments)
    with joined() as processes:
        launch = _trusting(functools.update_wrapper(partial(run_or_launch, task, script), task), saved)
        resuming.register_resolver(processes.agree_on_folder)
        if os.environ.get(FULL_ERROR) == "1":
            return _run_openly(lambda sweep: program(_open_job(launch, sweep))(), line)
        return _run(lambda sweep: program(_job(launch, line, sweep, processes))(), line, processes)


def _typed_overrides(arguments: list[str]) -> tuple[str, ...]:
    return tuple(argument for argument in arguments if "=" in argument and not argument.startswith("-"))


def _run(program: Callable[[Sweep], Any], line: CommandLine, processes: Processes) -> None:
    """Run Hydra's program; end the process with a message where it fails."""
    try:
        with _hydra_lets_errors_out(), not_mangled():
            failed = run_sweep(program, new_sweep(line.conf.parent))
        if failed:
            sys.exit(_say("\n" + "\n".join(failed), code=1))
    except KeyboardInterrupt as interrupt:
        text = str(interrupt)
        if processes.speaks_for_all:
            _say(f"\ninterrupted{'; ' if text else ''}{text}", code=0)
        sys.exit(exit_code(interrupt))
    except SystemExit as end:
        if end.code == 2 and any(argument.startswith("-") for argument in sys.argv[1:]):
            _say("Flags come first, then overrides without dashes: -m seed=0,1 epochs=5", code=2)
        raise
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not output_is_read():
            sys.exit(reader_gone())
        if {"-sc", "--shell-completion"} & set(sys.argv[1:]):
            sys.exit(1)  # the shell would offer the words of a message as completions
        message = _message(error, line)
        if processes.shows(message):
            _say(message if not processes.rank else f"[rank {processes.rank}] {message}", code=1)
        sys.exit(1)


def _run_openly(program: Callable[[Sweep], Any], line: CommandLine) -> None:
    """Run Hydra's program, with nothing of an error hidden; a sweep keeps its records as ever."""
    failed = run_sweep(program, new_sweep(line.conf.parent))
    if failed:
        sys.exit(_say("\n" + "\n".join(failed), code=1))


def _open_job(task: Task, sweep: Sweep) -> Task:
    """Wrap the function that Hydra calls: record a sweep's job with the whole traceback of its error."""

    @functools.wraps(task)
    def job(cfg: DictConfig) -> Any:
        check_asked(HydraConfig.get(), started_by_torchrun())
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            return _alone(task, cfg)
        return _sweep_job(task, cfg, sweep, lambda error: "".join(traceback.format_exception(error)))

    return job


@contextmanager
def _hydra_lets_errors_out() -> Iterator[None]:
    """Make Hydra raise instead of printing and exiting, which it only does with HYDRA_FULL_ERROR=1.

    A user's own setting was looked at before, and is as it was afterwards.
    """
    before, stderr = os.environ.get(FULL_ERROR), sys.stderr
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        sys.stderr = stderr
        del os.environ[FULL_ERROR]
        if before is not None:
            os.environ[FULL_ERROR] = before


def _job(task: Task, line: CommandLine, sweep: Sweep, processes: Processes) -> Task:
    """Wrap the function that Hydra calls: check that nothing is missing, and record how it ended."""
    leaves = _leaving_folder(line)

    def checked(cfg: DictConfig) -> Any:
        with not_mangled():
            check_complete(cfg, line)
            try:
                return task(cfg, hidden=FULL_ERROR)
            except Exception as error:
                check_still_there(error)
                raise

    @functools.wraps(task)
    def job(cfg: DictConfig) -> Any:
        config = HydraConfig.get()
        sweeps = config.mode == RunMode.MULTIRUN
        try:
            with dropped_start(leaves), not_mangled():
                check_asked(config, started_by_torchrun())
                take_typed(cfg, list(config.overrides.task), line.conf)
                if sweeps:
                    return _sweep_job(checked, cfg, sweep, lambda error: _message(error, line))
                if shares_the_terminal():
                    show_warnings_only()
                return _alone(checked, cfg)
        except KeyboardInterrupt as interrupt:
            processes.ends("interrupted", str(exit_code(interrupt) - 128))
            sweep_goes_on = again(Path(config.runtime.cwd, config.sweep.dir)) if sweeps else None
            raise how_to_go_on(interrupt, os.path.abspath(config.runtime.output_dir), sweep_goes_on) from interrupt
        except Exception as error:
            if not sweeps:
                cause = processes.why(error, _message(error, line))
                if isinstance(cause, Exception):
                    failures.log_failure(_message(cause, line))
                if cause is not error:
                    raise cause from None
            raise

    return job


def _leaving_folder(line: CommandLine) -> Callable[[BaseException], bool]:
    """Return what tells whether an error that ends a start leaves the run's folder there."""
    typed = [each.partition("=")[2].strip("'\"") for each in line.overrides if DIR in each]
    is_there = any(Path(each).is_dir() for each in typed)

    def leaves(error: BaseException) -> bool:
        is_bug = isinstance(error, Exception) and _message(error, line).startswith("Traceback")
        return is_there or is_bug or isinstance(error, RankDiedError) or HydraConfig.get().mode == RunMode.MULTIRUN

    return leaves


def _trusting(task: Task, saved: Sequence[str]) -> Task:
    """Wrap what runs a config: check first what overrides that a folder had `saved` make of it."""

    @functools.wraps(task)
    def trusting(cfg: DictConfig, **kwargs: Any) -> Any:
        check_composed(cfg, saved, str(cfg.get("resume")))
        return task(cfg, **kwargs)

    return trusting


def _alone(task: Task, cfg: DictConfig) -> Any:
    with open_folder(cfg), failures.every_end_noted(__file__):
        return task(cfg)


def _sweep_job(task: Task, cfg: DictConfig, sweep: Sweep, message: Callable[[Exception], str]) -> Any:
    """Run a job of a sweep; of a job's several nodes the first keeps its record."""
    if Nodes.of_this_job().index == 0:
        return run_job(partial(_swept, task), cfg, sweep, message)
    cfg.resume = resuming.AUTO
    return task(cfg)


def _swept(task: Task, cfg: DictConfig) -> Any:
    cfg.resume = resuming.AUTO  # from its last checkpoint, where an earlier call of the sweep left one
    claim_folder(cfg)
    return task(cfg)


def _message(error: Exception, line: CommandLine) -> str:
    """Return the user's message, or a traceback for a bug, one in the explanations included."""
    with suppress(Exception):
        if message := explain(error, line):
            return message
    return short_traceback(error, hidden=__file__) + "\nHYDRA_FULL_ERROR=1 shows the frames of Hydra too."


def _say(message: str, code: int) -> int:
    failures.show(message)
    return code
