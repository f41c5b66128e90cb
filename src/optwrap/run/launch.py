"""Starts the processes of a run that asks for several, by torch's own elastic launcher."""

import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from optwrap.errors import ConfigError
from optwrap.run.interruption import Interrupted
from optwrap.run.processes import PARENT_REPORTS, started_by_torchrun
from optwrap.sweep.records import read_result

_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


@dataclass(frozen=True)
class Nodes:
    """The machines that a launcher gave to one job; `index` is this one's, `first` the name of the first."""

    count: int = 1
    index: int = 0
    first: str = "localhost"

    @classmethod
    def of_this_job(cls) -> "Nodes":
        """Return what submitit has under Slurm; anywhere else this machine alone."""
        if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
            return cls()
        from submitit import JobEnvironment  # installed, since it started this process

        environment = JobEnvironment()
        return cls(environment.num_nodes, environment.node, environment.hostnames[0])


def run_or_launch(
    task: Callable[[DictConfig], Any], script: Path, cfg: DictConfig, hidden: str | None = None
) -> Any:
    """Run `task` here; where `cfg.nproc` asks for several processes, start them and return what they came to.

    On several nodes each starts its own, and all are one group. `script` is the program that `task` belongs to;
    `hidden` is an environment variable of this process that they shall not see.

    Raises:
        ConfigError: `nproc` is out of range, or a process failed; the message is that of the first.
        Interrupted: a signal ended them; they have saved where they stood.
    """
    nproc = cfg.get("nproc", 1)
    if nproc < 1:
        raise ConfigError(f"nproc={nproc}: it must be 1 or more.")
    nodes = Nodes.of_this_job()
    if nproc * nodes.count == 1 or started_by_torchrun():
        return task(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    with _environment(nproc, hidden):
        _run_processes(nproc, nodes, _command(script, cfg, folder))
    return read_result(folder).get(cfg.objective)


def _command(script: Path, cfg: DictConfig, folder: Path) -> list[str]:
    """Return the command line of one rank: that of a single run in the folder which this process holds."""
    hydra = HydraConfig.get()
    overrides = [each for each in hydra.overrides.task if not each.startswith("resume=")]
    resume = [] if cfg.resume is None else ["resume=auto"]
    return [str(script), f"--config-name={hydra.job.config_name}", *overrides, *resume, f"hydra.run.dir={folder}"]


def _run_processes(nproc: int, nodes: Nodes, command: list[str]) -> None:
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with TemporaryDirectory() as logs, _quiet(), _signals() as preempted:
        config = LaunchConfig(
            min_nodes=nodes.count,
            max_nodes=nodes.count,
            nproc_per_node=nproc,
            run_id=_run_id(nodes),
            rdzv_backend="c10d",
            rdzv_endpoint=f"{nodes.first}:{_port(nodes)}",
            rdzv_configs={"is_host": nodes.index == 0},
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)(*command)
        except SignalException as end:
            raise Interrupted(preempted[0] if preempted else end.sigval) from end
        except ChildFailedError as end:
            raise ConfigError(_reason(end)) from end


def _run_id(nodes: Nodes) -> str:
    return uuid.uuid4().hex if nodes.count == 1 else os.environ["SLURM_JOB_ID"]


def _port(nodes: Nodes) -> int:
    """Return where the nodes meet: 0, any that is free, where there is one; else one that all know."""
    return 0 if nodes.count == 1 else 20_000 + int(os.environ["SLURM_JOB_ID"]) % 10_000


def _reason(end: Any) -> str:
    """Return the message that the first process to fail has left, or how it was killed."""
    told = [each for each in end.failures.values() if isinstance(each.message, dict)]
    if told:
        return str(told[0].message["message"]).removeprefix(f"{ConfigError.__name__}: ")
    rank, failure = end.get_first_failure()
    died = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with {failure.exitcode}"
    return f"rank {rank} {died}. Go on with resume=auto, or resume=... and this run's folder."


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
    """Turn a launcher's signal of preemption into SIGTERM for the processes; yield where it is noted.

    Its handler, which puts the job back into the queue, is called when they have saved and ended.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {each: signal.getsignal(each) for name in _SIGNALS if (each := getattr(signal, name, None))}

    def end_processes(signum: int, frame: Any) -> None:
        from torch.distributed.elastic.multiprocessing.api import SignalException

        noted.append(signum)
        raise SignalException("preempted", signal.SIGTERM)

    for name in ("SIGUSR1", "SIGUSR2"):
        signum = getattr(signal, name, None)
        if signum is not None and callable(before[signum]):
            signal.signal(signum, end_processes)
    try:
        yield noted
    finally:
        for signum, handler in before.items():  # torch's launcher takes some of them and gives none back
            signal.signal(signum, handler)
        requeue = before.get(noted[0]) if noted else None
        if callable(requeue):
            requeue(noted[0], None)
