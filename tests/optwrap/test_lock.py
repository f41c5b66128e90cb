import errno
import logging

import pytest

from optwrap import lock


@pytest.fixture
def refusing(monkeypatch):
    """Let the file system answer each request for a lock with an error."""

    def refuse(number, reason):
        def lockf(descriptor, flags):
            raise OSError(number, reason)

        monkeypatch.setattr("fcntl.lockf", lockf)

    return refuse


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_another_holds_is_busy(number, refusing, tmp_path):
    refusing(number, "busy")
    with pytest.raises(lock.BusyError), lock.locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.ENOSYS])
def test_a_file_system_without_locks_is_warned_of_once(number, refusing, tmp_path, caplog):
    refusing(number, f"no such luck: {number}")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with lock.locked(tmp_path):
                pass
    assert not lock.is_locked(tmp_path)
    assert [record.message for record in caplog.records] == [
        f"The file system of the run's folder has no locks (no such luck: {number}): two processes in one "
        "folder go unseen."
    ]
