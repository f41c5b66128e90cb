"""How torch computes on the CPU: with few threads for a small model or a busy machine, in memory that is kept."""

import ctypes
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import nn

from optwrap.errors import ConfigError

logger = logging.getLogger(__name__)

_SMALL = 100_000  # parameters below which threads wait for each other longer than they compute
_OPENMP = "OMP_NUM_THREADS"
_LOOK = 0.1
"""Seconds for which the machine is looked at, at least."""
_STATISTICS = Path("/proc/stat")


@dataclass(frozen=True)
class CpuTime:
    """Seconds that the cores were busy up to a moment `at`, all of them together and for this process alone.

    `cores` is None where the system does not say.
    """

    at: float
    cores: float | None
    own: float

    @classmethod
    def now(cls, statistics: Path = _STATISTICS) -> Self:
        """Return what there is by now."""
        cores = _busy_seconds(statistics) if statistics.exists() else None
        return cls(time.perf_counter(), cores, time.process_time())


def set_threads(wanted: int | None, model: nn.Module, device: torch.device, since: CpuTime) -> None:
    """Set the number of threads for the run, and log which it is and why.

    `wanted` is the config's; null keeps OMP_NUM_THREADS, and torch's own number beside another device, and leaves
    to others the cores that they have used `since` then.

    Raises:
        ConfigError: it is less than 1.
    """
    if wanted is not None and wanted < 1:
        raise ConfigError(f"threads={wanted}: it must be 1 or more; null: as suits the model and the machine.")
    number, why = (wanted, "as configured") if wanted is not None else _suitable(model, device, since)
    torch.set_num_threads(number)
    _say(number, why)


_TRIM, _MMAP = -1, -3  # mallopt(3)'s names of these options
_KEPT, _FROM_HEAP = 2**30, 32 * 2**20


def keep_freed_memory() -> None:
    """Let the process keep up to 1 GiB of what tensors leave, for those of the next update.

    Else glibc gives it back to the system and asks for it again, page by page, in each update of a model whose
    tensors take some MiB. Who has set an option of malloc by an environment variable keeps all of them.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries have none
    if mallopt is not None:
        mallopt(_MMAP, _FROM_HEAP)  # as far as it would go by itself: no more than that is asked for one by one
        mallopt(_TRIM, _KEPT)


def keep_threads(wanted: int | None, before: object) -> None:
    """Go on with the number of an earlier part of the run, where nobody chose one: sums depend on it."""
    chosen = wanted is not None or _OPENMP in os.environ
    if not chosen and isinstance(before, int) and before != torch.get_num_threads():
        torch.set_num_threads(max(1, before))
        _say(before, "as in the run so far")


def _suitable(model: nn.Module, device: torch.device, since: CpuTime) -> tuple[int, str]:
    there = torch.get_num_threads()
    if _OPENMP in os.environ:
        return there, f"{_OPENMP}={os.environ[_OPENMP]}"
    if device.type != "cpu":
        return there, "torch's default"
    size = sum(param.numel() for param in model.parameters())
    if size < _SMALL:
        return 1, f"a model of {size:,} parameters gains nothing by more"
    cores, busy = os.cpu_count() or 1, busy_cores(since)
    return max(1, min(there, cores - round(busy))), f"{cores} cores, of which others use {busy:.1f}"


def busy_cores(since: CpuTime, statistics: Path = _STATISTICS) -> float:
    """Return how many cores other processes have used since then; 0 where the system does not say.

    Wait where it is a moment ago only. The load of the last minute is not asked: it holds the job that has just
    ended, so that of two jobs one after the other the second would compute with fewer threads.
    """
    if since.cores is None:
        return 0.0
    time.sleep(max(0.0, since.at + _LOOK - time.perf_counter()))
    now = CpuTime.now(statistics)
    assert now.cores is not None
    return max(0.0, (now.cores - since.cores - (now.own - since.own)) / (now.at - since.at))


def _busy_seconds(statistics: Path) -> float:
    """Return the seconds that all cores were busy since the system began, in any kind of work."""
    user, nice, system, _, _, interrupt, soft, stolen, *_ = map(int, statistics.read_text().split()[1:11])
    return (user + nice + system + interrupt + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _say(number: int, why: str) -> None:
    logger.info("%d thread%s on the CPU: %s. threads=... chooses.", number, "s" * (number != 1), why)
