"""The project's own code that a process has imported, as a hash a file."""

import functools
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

DIGITS = 16


def imported_code(root: Path) -> dict[str, str]:
    """Return the files below `root` that this process has imported, by their paths from there, with their hashes.

    Packages that are installed in an environment below `root` are none of the project's. A file that is edited
    after it was first asked for keeps its hash: the process runs what it has read.
    """
    files = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        path = Path(file).resolve()
        if path.is_relative_to(root) and "site-packages" not in path.parts:
            files[path.relative_to(root).as_posix()] = _hash(path)
    return {name: value for name, value in sorted(files.items()) if value}


def differing(recorded: Mapping[str, str], root: Path) -> list[str]:
    """Return which of the recorded files are other ones here, or are not here."""
    return [name for name, value in recorded.items() if _hash(root / name) != value]


@functools.cache
def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]
    except OSError:
        return ""
