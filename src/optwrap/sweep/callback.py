"""What is done before a sweep, when Hydra has composed it."""

import math
import os
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from optwrap.files import write_json


class SweepStart(Callback):
    """Keep the sweep's own config in HydraConfig, where Hydra puts that of single jobs only; write `sweep.json`.

    The jobs' configs take its place meanwhile; after the sweep, even a failed one, it is there again.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this in the process that sweeps."""
        HydraConfig.instance().set_config(config)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends them unless told not to before it starts
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(
            folder / "sweep.json", {"jobs": jobs_planned(config), "overrides": list(config.hydra.overrides.task)}
        )


def jobs_planned(config: DictConfig) -> int | None:
    """Return how many jobs a sweep will have: the trials of a search, the points of a grid; None if unknown."""
    sweeper = config.hydra.sweeper
    if "n_trials" in sweeper:
        return int(sweeper.n_trials)
    if not str(sweeper._target_).endswith(".BasicSweeper"):
        return None
    params = {key: f"{key}={value}" for key, value in (sweeper.params or {}).items()}
    typed = {override.partition("=")[0]: override for override in config.hydra.overrides.task}
    try:
        overrides = OverridesParser.create().parse_overrides(list((params | typed).values()))
        return math.prod(len(list(each.sweep_iterator())) for each in overrides if each.is_discrete_sweep())
    except HydraException:  # glob() asks for the groups; the sweeper itself will say what is wrong
        return None
