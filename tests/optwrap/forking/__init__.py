"""Programs that tests start as processes of their own, without waiting for their libraries each time.

`server.py` loads the libraries once, and forks for each program; `client.py` stands for Python: it hands its
arguments, environment, folder and standard streams to the server, passes signals on, and ends as the program does.
Nothing of optwrap is loaded before the fork, so that a program finds its own. A test of what happens where a
process is killed, or of what is loaded, needs `sys.executable` instead.
"""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


@functools.cache
def python() -> str:
    """Return the path of a command that runs Python programs; the first to ask starts the server.

    One server serves all workers of pytest-xdist, and ends with the process that started them.
    """
    workers = "PYTEST_XDIST_TESTRUNUID" in os.environ
    owner = os.getppid() if workers else os.getpid()
    folder = Path(tempfile.gettempdir()) / f"optwrap-tests-{owner}"
    command = folder / "python"
    try:
        folder.mkdir()
    except FileExistsError:  # another worker was first
        return str(command)
    client = f'"{sys.executable}" -I -S "{HERE / "client.py"}" "{folder / "socket"}"'
    command.with_suffix(".tmp").write_text(f'#!/bin/sh\nexec {client} "$@"\n')
    command.with_suffix(".tmp").chmod(0o755)
    command.with_suffix(".tmp").rename(command)
    server = [sys.executable, str(HERE / "server.py"), str(folder), str(owner)]
    subprocess.Popen(server, env=os.environ | ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return str(command)


def ranks() -> dict[str, str]:
    """Return the environment in which a program starts its own processes by that command too."""
    return {**os.environ, **ENVIRONMENT, "OPTWRAP_TESTS_PYTHON": python()}
