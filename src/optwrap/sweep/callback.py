"""What is done before a sweep, when Hydra has composed it."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from optwrap.errors import ConfigError
from optwrap.files import new_folder, write_json
from optwrap.sweep.failures import override
from optwrap.sweep.search.space import repeats_of


class SweepFolder:
    """Where this process sweeps: `path` is None as long as Hydra has not said."""

    def __init__(self) -> None:
        self.path: Path | None = None

    @contextmanager
    def filled_in(self) -> Iterator[Self]:
        """Have the sweep that begins inside note its folder here."""
        token = _FOLDER.set(self)
        try:
            yield self
        finally:
            _FOLDER.reset(token)


# Hydra makes the callback from a config, which carries no object of ours.
_FOLDER: ContextVar[SweepFolder | None] = ContextVar("optwrap_sweep_folder", default=None)


def made_new(place: DictConfig) -> bool:
    """Make the folder that `place.dir` names by the time to the second, and say there which: others may start too.

    Any other name may be that of a folder to go on in: nothing is done.
    """
    if "%S" not in str(OmegaConf.to_container(place, resolve=False)):
        return False
    with suppress(OSError), read_write(place):  # Hydra will run into it too, and says so
        place.dir = str(new_folder(Path(place.dir)))
    return True


class SweepStart(Callback):
    """Note where Hydra sweeps, and write `sweep.json`."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this in the process that sweeps."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends them unless told not to before it starts
        if made_new(config.hydra.sweep):
            with read_write(config.hydra.overrides):  # of which each job is composed anew
                config.hydra.overrides.hydra.append(override(config.hydra.sweep.dir))
        folder = Path(os.path.abspath(config.hydra.sweep.dir))
        if noted := _FOLDER.get():
            noted.path = folder
        folder.mkdir(parents=True, exist_ok=True)
        write_json(
            folder / "sweep.json", {"jobs": jobs_planned(config), "overrides": list(config.hydra.overrides.task)}
        )


def jobs_planned(config: DictConfig) -> int | None:
    """Return how many jobs a sweep will have: the trials of a search, the points of a grid; None if unknown."""
    sweeper = config.hydra.sweeper
    if "n_trials" not in sweeper and not str(sweeper._target_).endswith((".BasicSweeper", ".GridSweeper")):
        return None
    params = {key: f"{key}={value}" for key, value in (sweeper.params or {}).items()}
    typed = {override.partition("=")[0]: override for override in config.hydra.overrides.task}
    try:
        overrides = OverridesParser.create().parse_overrides(list((params | typed).values()))
        if "n_trials" in sweeper:
            return int(sweeper.n_trials) * len(repeats_of(overrides, sweeper.get("repeats") or ()))
        return math.prod(len(list(each.sweep_iterator())) for each in overrides if each.is_discrete_sweep())
    except (HydraException, ConfigError):  # glob() asks for the groups; the sweeper itself will say what is wrong
        return None
