"""An advisory lock on a run's folder, which the kernel frees whatever ends the process that holds it."""

import errno
import functools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

LOCK = ".lock"
_BUSY = (errno.EAGAIN, errno.EACCES)
_POLL = 0.05  # seconds between tries


class BusyError(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of the folder; wait for it at most so many seconds, for ever where `wait` is infinite.

    Take it once in a process: a second one inside would end the first.

    Raises:
        BusyError: another process holds it.
    """
    with (folder / LOCK).open("a") as file:
        give_up = time.monotonic() + wait
        while not _taken(file.fileno()):
            if time.monotonic() >= give_up:
                raise BusyError(str(folder))
            time.sleep(_POLL)
        yield


def is_locked(folder: Path) -> bool:
    """Tell whether another process holds the lock; a process must not ask this of a lock of its own."""
    try:
        with (folder / LOCK).open("r+") as file:
            return not _taken(file.fileno())
    except OSError:  # no lock was ever taken, or the folder is somebody else's and cannot be written
        return False


def _taken(descriptor: int) -> bool:
    """Try to take the lock, which is freed when the file is closed."""
    if fcntl is None:
        return True
    try:
        # lockf and not flock: data workers, which outlive a killed run by seconds, do not inherit it.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        _warn_of_no_locks(error.strerror)
    return True


@functools.cache
def _warn_of_no_locks(reason: str) -> None:
    """Say once that a file system, as some of clusters are, has no locks."""
    log.warning(
        "The file system of the run's folder has no locks (%s): two processes in one folder go unseen.",
        reason,
    )
