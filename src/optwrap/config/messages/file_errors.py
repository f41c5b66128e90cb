"""Words for files that are not there, and folders that cannot be made or written."""

import errno
import os
import traceback

from optwrap.config.command_line import CommandLine

_CANNOT_WRITE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOSPC})


def explain_file(error: BaseException, line: CommandLine) -> str | None:
    """Explain a folder that cannot be written, or a file of the data that is not where the command line says."""
    # What opens the log wraps the system's error.
    written = error.__cause__ if str(error).startswith("Unable to configure handler") else error
    if not isinstance(written, OSError) or not written.filename:
        return None
    if written.errno in _CANNOT_WRITE or _makes_folder(written):
        return f"{written.filename}: {written.strerror}. {_remedy(line)}"
    if isinstance(error, FileNotFoundError) and (root := _data_root(error, line)):
        return f"{root}: {error.filename} is not there. Give the folder of the data, relative to where you start."
    return None


def _remedy(line: CommandLine) -> str:
    resumed = next((each for each in line.overrides if each.startswith("resume=")), None)
    if resumed is None or resumed == "resume=auto":
        return "Choose another folder by hydra.run.dir=... (or data.root=...)."
    return f"{resumed} goes on in the run's own folder: make it writable, or copy it and resume the copy."


def _makes_folder(error: OSError) -> bool:
    """Tell whether no folder of this name can be made, whatever the system calls the reason: /proc/run."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)][-1:] == ["mkdir"]


def _data_root(error: OSError, line: CommandLine) -> str | None:
    """Return the override of the data's folder that the missing file would be in."""
    typed = [each.lstrip("+") for each in line.overrides]
    typed = [each for each in typed if each.startswith(("data.root=", "data_root="))]
    roots = [(override, os.path.abspath(override.partition("=")[2])) for override in typed]
    missing = os.path.abspath(str(error.filename))
    return next((override for override, root in roots if missing.startswith(root)), None)
