"""What a run is called where many are looked at together."""

import os
import re
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from optwrap.loggers.trackers import Named


def named(folder: Path) -> Named:
    """Return what the run in `folder` is called: a job of a sweep as in results.csv, its group as the sweep."""
    hydra: Any = HydraConfig.get()
    project = project_folder().name
    if hydra.mode != RunMode.MULTIRUN:
        return Named(short(folder), None, project)
    sweep = Path(os.path.abspath(Path(hydra.runtime.cwd, hydra.sweep.dir)))
    return Named(folder.relative_to(sweep).as_posix(), short(sweep), project)


def short(folder: Path) -> str:
    """Return a folder's own name, of one that is named by the time the date too.

    >>> short(Path("outputs/norms")), short(Path("outputs/2026-01-31/12-00-00"))
    ('norms', '2026-01-31/12-00-00')
    """
    path = Path(os.path.abspath(folder))
    return path.name if re.search("[A-Za-z]", path.name) else f"{path.parent.name}/{path.name}"


def project_folder() -> Path:
    """Return the folder that holds the program's configs, else the one that it was started in."""
    runtime: Any = HydraConfig.get().runtime
    main = [str(source.path) for source in runtime.config_sources if source.provider == "main"]
    path = main[0].partition("://")[2] or main[0] if main else runtime.cwd
    return (Path(path).parent if main else Path(path)).resolve()
