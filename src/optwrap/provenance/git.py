"""What git knows of the project: the commit, and how the files differ from it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 4 * 2**20
"""The largest diff that is kept."""
MOST_OF_A_FILE = 2**18
"""The largest file which is in no commit that a diff holds."""


@dataclass(frozen=True)
class Tree:
    """The files of a project: their commit, the diff to it (None where it is beyond bounds), and what that lacks.

    `prefix` is the project's folder in the repository, empty where it is the whole.
    """

    commit: str
    diff: bytes | None = b""
    left_out: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def is_dirty(self) -> bool:
        """Whether the files are not those of the commit."""
        return self.diff != b"" or bool(self.left_out)


def read_tree(root: Path) -> Tree | None:
    """Return what git says of the project in `root`; None without git, a repository or a commit.

    The diff is binary-safe, for `git apply`, and holds the files that git neither knows nor ignores, less large
    ones. The repository and its index stay as they are.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
        prefix = _git(root, "rev-parse", "--show-prefix").decode().strip()
        changed = _names(_git(root, "ls-files", "-z", "-m", "-d", "--", "."))
        unknown = _names(_git(root, "ls-files", "-z", "-o", "--exclude-standard", "--", "."))
        large = tuple(name for name in unknown if not _is_small(root / name))
        diff = _diff(root, [*changed, *(name for name in unknown if name not in large)])
    except (OSError, subprocess.CalledProcessError):
        return None
    return Tree(commit, diff if len(diff) <= MOST_BYTES else None, large, prefix)


def _diff(root: Path, changed: list[str]) -> bytes:
    """Return the diff of the project's files to the commit, by an index and an object store of its own."""
    objects = Path(_git(root, "rev-parse", "--path-format=absolute", "--git-path", "objects").decode().strip())
    index = Path(_git(root, "rev-parse", "--path-format=absolute", "--git-path", "index").decode().strip())
    with tempfile.TemporaryDirectory() as folder:
        if index.exists():
            shutil.copy2(index, folder)  # with its time, by which git tells what has changed since
        (Path(folder) / "objects").mkdir()
        own = {
            "GIT_INDEX_FILE": str(Path(folder) / "index"),
            "GIT_OBJECT_DIRECTORY": str(Path(folder) / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        names = "".join(f"{name}\0" for name in dict.fromkeys(changed)).encode()
        _git(root, "update-index", "--add", "--remove", "-z", "--stdin", given=names, environment=own)
        options = ("--cached", "--binary", "--no-color", "--no-ext-diff", "--no-renames", "HEAD")
        return _git(root, "diff", *options, "--", ".", environment=own)


def _git(root: Path, *arguments: str, given: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
    full = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", **(environment or {})}
    return subprocess.run(
        ["git", *arguments], cwd=root, input=given, env=full, check=True, capture_output=True, timeout=60
    ).stdout


def _names(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _is_small(path: Path) -> bool:
    try:
        return path.lstat().st_size <= MOST_OF_A_FILE
    except OSError:
        return False
