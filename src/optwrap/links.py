"""Further names of a file, and what a folder holds that has to go."""

import filecmp
import os
import shutil
from pathlib import Path


def temporary_of(name: Path) -> Path:
    """Return what a name is called until it is whole."""
    return name.with_name(name.name + ".tmp")


def link(path: Path, name: Path) -> None:
    """Give the file another name, in place of the file that had it; a copy on a file system without links."""
    temporary = temporary_of(name)
    remove(temporary)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    os.replace(temporary, name)


def is_linked(path: Path, name: Path) -> bool:
    """Whether `name` is the file, or a copy of it."""
    return name.is_file() and (os.path.samefile(path, name) or filecmp.cmp(path, name, shallow=False))


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there; of a link to either the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
