"""What a run's folder says of where it comes from: `provenance.json`, `changes.diff`, `packages.txt`."""

import logging
import os
import platform
import shlex
import socket
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from optwrap.files import read_mapping, write_bytes, write_json, write_text
from optwrap.provenance.code import imported_code
from optwrap.provenance.git import MOST_BYTES, Tree, read_tree
from optwrap.provenance.packages import installed

logger = logging.getLogger(__name__)

RECORD, CHANGES, PACKAGES = "provenance.json", "changes.diff", "packages.txt"
# What changes numbers, beside the config.
_ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED")


def write_provenance(folder: Path, root: Path, facts: Mapping[str, Any]) -> None:
    """Write where this start of the run in `folder` comes from, after its earlier starts.

    `root` is the project's folder; `facts` are what the run knows: device, threads, data. The diff and the
    packages are those of the last start; each start has its commit and its files.
    """
    write_text(folder / PACKAGES, "\n".join(installed()) + "\n")
    start = {
        "time": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "environment": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        **facts,
        **_git(folder, read_tree(root)),
        "files": imported_code(root),
    }
    write_json(folder / RECORD, {"starts": [*read_starts(folder), start]})


def _git(folder: Path, tree: Tree | None) -> dict[str, Any]:
    """Keep the diff of the tree; return what else is to be known of it."""
    if tree is None or not tree.diff:
        (folder / CHANGES).unlink(missing_ok=True)
    else:
        write_bytes(folder / CHANGES, tree.diff)
    if tree is None:
        return {"commit": None}
    if tree.diff is None:
        mebibytes = MOST_BYTES >> 20
        logger.warning("The changes since commit %s are over %d MiB: not kept.", tree.commit[:12], mebibytes)
    if tree.left_out:
        logger.warning("%s lacks large files that no commit has: %s", CHANGES, ", ".join(tree.left_out[:5]))
    return {
        "commit": tree.commit,
        "dirty": tree.is_dirty,
        "prefix": tree.prefix,
        "left_out": list(tree.left_out),
        "kept": tree.diff is not None,
    }


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """Return what was written of each start of a run; empty where nothing was, or it is damaged."""
    starts = read_mapping(folder / RECORD).get("starts")
    return [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []


def last_start(folder: Path) -> dict[str, Any]:
    """Return what was written of the last start of a run; empty where nothing was, or it is damaged."""
    starts = read_starts(folder)
    return starts[-1] if starts else {}


def files_of(start: Mapping[str, Any]) -> dict[str, str]:
    """Return the files, with their hashes, that a start of a run had imported."""
    files = start.get("files")
    return {str(name): str(value) for name, value in files.items()} if isinstance(files, dict) else {}


def recorded_files(folder: Path) -> dict[str, str]:
    """Return the files, with their hashes, that the last start of a run had imported."""
    return files_of(last_start(folder))
