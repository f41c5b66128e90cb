"""Starts the processes of a run that asks for several, by torch's own elastic launcher."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from optwrap.config import origin
from optwrap.config.command_line import as_override
from optwrap.errors import ConfigError
from optwrap.program.folder import run_folder
from optwrap.program.interruption import Handler, Interrupted, handled, handled_by_others
from optwrap.program.nodes import Nodes
from optwrap.program.processes import PARENT_REPORTS, started_by_torchrun
from optwrap.sweep.records import read_result

log = logging.getLogger(__name__)

_AUTO = "resume=auto"
_LAST_LINES = 10


def run_or_launch(
    task: Callable[[DictConfig], Any], script: Path, cfg: DictConfig, hidden: str | None = None
) -> Any:
    """Run `task` here; where `cfg.nproc` asks for several processes, start them and return what they came to.

    On several nodes each starts its own, and all are one group. `script` is the program that `task` belongs to;
    `hidden` is an environment variable of this process that they shall not see. At a signal that a launcher has
    a handler for, they save and end, and it is called; where it returns, they are started again and go on.

    Raises:
        ConfigError: `nproc` is out of range, or a process failed; the message is that of the first.
        Interrupted: a signal ended them; they have saved where they stood.
    """
    nproc = cfg.get("nproc", 1)
    if nproc < 1:
        raise ConfigError(f"nproc={nproc}: it must be 1 or more.")
    if nproc > (most := max(16, 4 * (os.cpu_count() or 1))):
        raise ConfigError(f"nproc={nproc}: each is a whole process; on this machine give {most} at most.")
    nodes = Nodes.of_this_job()
    if nproc * nodes.count == 1 or started_by_torchrun():
        return task(cfg)
    folder = run_folder()
    command, handlers = _command(script, cfg, folder), dict(handled_by_others())
    with _environment(nproc, hidden):
        for attempt in count():
            try:
                with _signals() as noted:
                    _run_processes(nproc, nodes, attempt, command, folder)
                result = read_result(folder)
                return result.get(str(result.get("objective")))
            except Interrupted as interrupt:
                _ask(handlers, noted or [interrupt.signum])
            command = [*(each for each in command if each != _AUTO), _AUTO]


class RankDiedError(ConfigError):
    """A process of a run ended without a word of why: its log is worth a look."""


def _command(script: Path, cfg: DictConfig, folder: Path) -> list[str]:
    """Return the command line of one rank: that of a single run in the folder which this process holds."""
    hydra = HydraConfig.get()
    overrides = [each for each in hydra.overrides.task if not each.startswith("resume=")]
    resume = [] if cfg.resume is None else [_AUTO]
    # A rank is one run, also where a file that this one is composed from asks for a sweep.
    own = [as_override("hydra.run.dir", str(folder)), "hydra.mode=RUN"]
    return [str(script), *origin.arguments_of(hydra), *overrides, *resume, *own]


def _ask(handlers: Mapping[int, Handler], noted: Sequence[int]) -> None:
    """Let the launcher's handlers of the signals decide: one ends this process, or the run goes on.

    Submitit's requeues the job at SIGUSR2; at SIGTERM it returns, and Slurm kills later, if at all.
    """
    for signum in noted:
        if signum not in handlers:
            raise Interrupted(signum)
        handlers[signum](signum, None)
    log.warning("%s: the processes have saved and go on", signal.Signals(noted[0]).name)


def _run_processes(nproc: int, nodes: Nodes, attempt: int, command: list[str], folder: Path) -> None:
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with TemporaryDirectory() as logs, _quiet():
        config = LaunchConfig(
            min_nodes=nodes.count,
            max_nodes=nodes.count,
            nproc_per_node=nproc,
            run_id=nodes.run_id(attempt),
            rdzv_backend="c10d",
            rdzv_endpoint=f"{nodes.first}:{nodes.port(attempt)}",
            rdzv_configs={"is_host": nodes.index == 0},
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(log_dir=logs, tee=Std.ERR),
            log_line_prefix_template="[rank ${rank}] ",
            signals_to_handle="",  # `_signals` does
        )
        try:
            elastic_launch(config, sys.executable)(*command)
        except ChildFailedError as end:
            if (cause := _signal_of(end)) is not None:
                raise Interrupted(cause) from end
            kind = ConfigError if _told(end) else RankDiedError
            raise kind(_reason(end, Path(logs), folder)) from end
        except RendezvousError as end:
            raise ConfigError(
                f"the job's {nodes.count} nodes did not meet at {config.rdzv_endpoint}: {end}. Each must reach "
                "the first by the name that Slurm gives it."
            ) from end


def _signal_of(end: Any) -> int | None:
    """Return by what signal the first process was asked to end, as where another node's parent was."""
    _, failure = end.get_first_failure()
    signum = -failure.exitcode if failure.exitcode < 0 else failure.exitcode - 128
    return signum if signum in (signal.SIGTERM, signal.SIGINT) and not _told(end) else None


def _reason(end: Any, logs: Path, folder: Path) -> str:
    """Return the message that the first process has left, or how it died and what it said last."""
    rank, failure = end.get_first_failure()
    if failure.exitcode > 0 and (told := _told(end)):
        return told[0].removeprefix(f"{ConfigError.__name__}: ")
    died = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with {failure.exitcode}"
    saved = any(folder.glob("checkpoint*"))
    remedy = " Go on with resume=auto, or resume=... and this run's folder." if saved else ""
    said = _last_lines(logs, failure.local_rank)
    return f"rank {rank} {died}.{remedy}" + (f" It said last:\n{said}" if said else "")


def _last_lines(logs: Path, local_rank: int) -> str:
    """Return the last that a process wrote to stderr, which torch's launcher keeps a copy of."""
    texts = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in logs.glob(f"*/attempt_*/{local_rank}/stderr.log")
    ]
    lines = "".join(texts).splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:] if line.strip())


def _told(end: Any) -> list[str]:
    return [each.message["message"] for each in end.failures.values() if isinstance(each.message, dict)]


@contextmanager
def _environment(nproc: int, hidden: str | None) -> Iterator[None]:
    """Give the processes started inside their share of the CPU's cores, and the word that this one reports."""
    before = dict(os.environ)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    os.environ[PARENT_REPORTS] = str(HydraConfig.get().mode)
    if hidden is not None:
        os.environ.pop(hidden, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave what torch's launcher says of a process that ends to the message of its error."""
    logger = logging.getLogger("torch.distributed.elastic")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Let the signals that end a run end its processes, which save; yield where they are noted.

    A further one only adds to the list, but for Ctrl-C: then this process ends at once, and the others after it.
    """
    noted: list[int] = []

    def end_processes(signum: int, frame: Any) -> None:
        noted.append(signum)
        if len(noted) == 1 or signum == signal.SIGINT:
            # Torch's launcher sends SIGTERM to the processes and waits. Its own handler raises an Exception, which
            # logging swallows where the signal comes in the middle of a log line.
            raise Interrupted(signum)

    own = [getattr(signal, name, None) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")]
    listened = {each for each in own if each is not None and signal.getsignal(each) is not signal.SIG_IGN}
    with handled(listened | dict(handled_by_others()).keys(), end_processes):
        try:
            yield noted
        except ConfigError:
            raise
        except Exception as error:  # what a library has made of it
            if not noted:
                raise
            raise Interrupted(noted[0]) from error
