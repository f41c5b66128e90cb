"""Which files are the corpus, and which split each belongs to."""

import hashlib
import os
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from optwrap.errors import ConfigError

SPLITS = ("train", "val", "test")
# Tests, what was installed, and prose and configuration that tools have written.
_NO_SOURCES = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "pydoc_data"}
)


def stdlib_files() -> dict[str, Path]:
    """Return the sources of Python's standard library by their names, without its tests."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for folder, folders, files in os.walk(root):
        # Not entered at all: what is installed there may be tens of thousands of files.
        folders[:] = [name for name in folders if name not in _NO_SOURCES]
        found += [Path(folder, name) for name in files if name.endswith(".py")]
    return {str(path.relative_to(root)): path for path in sorted(found)}


def folder_files(root: Path, pattern: str) -> dict[str, Path]:
    """Return the files below `root` that fit a pattern such as `**/*.txt`, by their names.

    Raises:
        ConfigError: there is no such folder, or no such file in it.
    """
    if not root.is_dir():
        raise ConfigError(f"data.root={root}: there is no such folder.")
    found = {str(path.relative_to(root)): path for path in sorted(root.glob(pattern)) if path.is_file()}
    if not found:
        raise ConfigError(f"data.pattern={pattern}: no file in {root} fits it. For all of them: '**/*'.")
    return found


def split_files(names: Sequence[str], shares: Mapping[str, float]) -> dict[str, list[str]]:
    """Return the names of each split; a file's own name decides, so that more files move none of the others.

    `shares` are those of val and test, from 0 to below 1.

    >>> split_files(["a.py", "b.py", "c.py", "d.py"], {"val": 0.3, "test": 0.3})
    {'train': ['a.py', 'c.py'], 'val': ['b.py', 'd.py'], 'test': []}
    """
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
        val, test = shares["val"], shares["test"]
        splits["val" if place < val else "test" if place < val + test else "train"].append(name)
    return splits
