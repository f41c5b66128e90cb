"""The processes that torchrun starts for a run: how they meet, agree on a folder, and end together."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optwrap.config.command_line import asks_for_sweep
from optwrap.errors import ConfigError
from optwrap.files import new_folder
from optwrap.program.interruption import Interrupted

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
PARENT_REPORTS = "OPTWRAP_PARENT_REPORTS"
"""Set where the process that started the ranks holds the run's folder, and shows the message of an error.

Its value is Hydra's mode there: in a sweep the terminal is not the run's.
"""
_WAIT = 5.0  # seconds for the word of the rank that failed, when a connection breaks
_GRACE = 30.0  # seconds for a checkpoint, when the process that started this one is gone; torch's launcher's
_END, _FOLDER = "end", "optwrap/run folder"
_REMEDY = "torchrun --max-restarts=3 starts all of them again, from the last checkpoint; resume=auto goes on too."
_LOST = ("gloo", "Gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")


def started_by_torchrun() -> bool:
    """Whether torchrun, or what sets its environment variables, started this process as one of a group."""
    return all(name in os.environ for name in _ENVIRONMENT)


def arguments_of_rank(arguments: Sequence[str]) -> list[str]:
    """Return the command line of a process that torchrun started: after a restart, the run goes on.

    Raises:
        ConfigError: each process would sweep for itself.
    """
    if not started_by_torchrun():
        return list(arguments)
    if asks_for_sweep(arguments):
        raise ConfigError(
            "-m: under torchrun each process would sweep for itself. Let each job start its processes: "
            "python train.py -m ... nproc=2"
        )
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    resumes = any(each.startswith("resume=") for each in arguments)
    return [*arguments, "resume=auto"] if restarted and not resumes else list(arguments)


def parent_reports() -> bool:
    """Whether a process above this one holds the run's folder and shows errors."""
    return PARENT_REPORTS in os.environ


def shares_the_terminal() -> bool:
    """Whether another process has the terminal: rank 0, or the sweep that the run is a job of."""
    return bool(rank_suffix()) or os.environ.get(PARENT_REPORTS, "").endswith("MULTIRUN")


def rank_suffix() -> str:
    """Return what tells the log of a rank above 0 from rank 0's."""
    rank = os.environ.get("RANK", "0") if started_by_torchrun() else "0"
    return "" if rank == "0" else f"_rank{rank}"


@dataclass(frozen=True)
class Processes:
    """The group that this process belongs to; `store` is None where it is alone.

    The store outlives a restart of the group by torchrun, `attempt` is its part for this start.
    """

    rank: int = 0
    store: Any = None
    attempt: Any = None

    @property
    def speaks_for_all(self) -> bool:
        """Whether this process says what all of them know."""
        return self.rank == 0 and not parent_reports()

    def agree_on_folder(self, wanted: str) -> str:
        """Return the run's folder, which rank 0 makes, of this name where it is free; before a restart too."""
        if self.store is None:
            return wanted
        if self.rank == 0 and not self.store.check([_FOLDER]):
            self.store.set(_FOLDER, str(new_folder(Path(wanted))))
        return self.store.get(_FOLDER).decode()

    def ends(self, how: str, text: str) -> bool:
        """Note how this process ends ('failed', 'interrupted') and why; return whether it is the first to end."""
        if self.attempt is None:
            return True
        with suppress(RuntimeError):  # the store is gone with the process that held it: nobody else listens
            first = self.attempt.compare_set(_END, "", f"{self.rank}:{how}:{text}").decode()
            return first.startswith(f"{self.rank}:")
        return True

    def shows(self, message: str) -> bool:
        """Note the message of an error; return whether this process is the one to show it."""
        first = self.ends("failed", message)
        if first and parent_reports():
            _record_for_torchrun(ConfigError(message))
        return first and not parent_reports()

    def why(self, error: Exception, message: str) -> BaseException:
        """Return what ended the run: this error, or that of the rank which ended first and so caused it."""
        if self.attempt is None:
            return error
        lost = _lost_connection(error)
        if not lost and self.ends("failed", message):
            _record_for_torchrun(ConfigError(message))
            return error
        first = self._first_end()
        if first is None:
            died = ConfigError(
                f"another process of this run died (killed, or out of memory?): {lost or error}. {_REMEDY}"
            )
            _record_for_torchrun(died)
            return died
        rank, how, text = first
        if how != "interrupted":
            _record_for_torchrun(ConfigError(text))  # the first to fail may be another node's
        return Interrupted(int(text)) if how == "interrupted" else ConfigError(f"rank {rank} failed: {text}")

    def _first_end(self) -> tuple[int, str, str] | None:
        from datetime import timedelta

        with suppress(RuntimeError):
            self.attempt.wait([_END], timedelta(seconds=_WAIT))
            rank, how, text = self.attempt.get(_END).decode().split(":", 2)
            return int(rank), how, text
        return None


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started, for what runs inside; alone, do nothing."""
    if not started_by_torchrun():
        yield Processes()
        return
    import torch.distributed as dist  # here, since --help and completion answer without torch

    if parent_reports():
        _heed_parent()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    agent_holds_it = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(host, port, size, is_master=rank == 0 and not agent_holds_it, wait_for_workers=False)
    # A part of its own for each start: a restarted group must not find the addresses of the one that died.
    attempt = dist.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(store=attempt, rank=rank, world_size=size)
    yield Processes(rank, store, attempt)
    dist.destroy_process_group()  # only in good order: after an error it would wait for the others


def _heed_parent() -> None:
    """Take signals from the process that started this one alone, and end with it, however it ends."""
    for name in ("SIGUSR1", "SIGUSR2"):
        signum = getattr(signal, name, None)
        if signum is not None and signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, signal.SIG_IGN)  # Slurm sends it to all; the parent makes it a SIGTERM
    threading.Thread(target=_end_after, args=(os.getppid(),), daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(128 + signal.SIGTERM)


def _record_for_torchrun(error: BaseException) -> None:
    """Leave the error where torchrun looks for it, to show it as the cause of the end."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)


def _lost_connection(error: Exception) -> str:
    """Return the words of an error that came of the end of another process; '' for any other."""
    text = (str(error).splitlines() or [""])[0]
    return text if isinstance(error, RuntimeError) and any(word in text for word in _LOST) else ""
