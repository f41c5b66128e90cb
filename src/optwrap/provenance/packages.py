"""The packages that are installed."""

import functools
import re
import sys
from pathlib import Path

_FOLDER = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-.*)?\.(?:dist|egg)-info")


@functools.cache
def installed() -> tuple[str, ...]:
    """Return a line a package, `name==version`, as pip takes them for constraints.

    One that was installed from a folder or an address, and so may have no version that an index knows, is a
    comment. They are read off the names of folders: asking each package takes a fifth of a second.
    """
    lines: dict[str, str] = {}
    for folder in map(Path, sys.path):
        for path in folder.glob("*-info") if folder.is_dir() else ():
            if found := _FOLDER.fullmatch(path.name):
                name = found["name"].replace("_", "-").lower()
                comment = "# " if (path / "direct_url.json").exists() else ""
                lines.setdefault(name, f"{comment}{name}=={found['version']}")
    return tuple(lines[name] for name in sorted(lines))
