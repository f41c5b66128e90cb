"""A run that Python code starts with a config that it has composed, as in a notebook."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from optwrap.config import store
from optwrap.config.saved_overrides import SAVED
from optwrap.errors import ConfigError
from optwrap.hydra_versions import VERSION_BASE
from optwrap.program.folder import RunStart, open_folder, run_folder


def called(task: Callable[[Any], Any], cfg: Any, conf: Path, config_name: str) -> Any:
    """Return what `task` comes to on `cfg`, in a folder named as that of any run.

    Where Hydra has started this, or the caller has set HydraConfig, that says all of it. A config composed with
    `return_hydra_config=True` knows its overrides, so that the run can be resumed from the command line.

    Raises:
        ConfigError: the config asks for several processes, or as `open_folder`.
    """
    if HydraConfig.initialized():
        return task(cfg)
    if cfg.get("nproc", 1) != 1:
        raise ConfigError(f"nproc={cfg.nproc}: a run that is called works in this process. Start it by train.py.")
    knows_overrides = "hydra" in cfg
    full = _with_hydra(cfg, conf, config_name)
    own = OmegaConf.masked_copy(full, [str(key) for key in full if key != "hydra"])
    with _hydra_says(full), open_folder(own):
        if not knows_overrides:
            with suppress(FileNotFoundError):
                (run_folder() / SAVED).unlink()  # or the run would go on under the default config
        return task(own)


def _with_hydra(cfg: DictConfig, conf: Path, config_name: str) -> DictConfig:
    """Return a copy of the config with what Hydra says of a run on its own."""
    full = cfg.copy()
    if "hydra" not in full:
        store.register()
        with initialize_config_dir(str(conf), **VERSION_BASE):
            hydra = compose(config_name, return_hydra_config=True).hydra
        with open_dict(full):
            full.hydra = hydra
    if "resume" not in full:  # a config of a program of one's own
        with open_dict(full):
            full.resume = None
    OmegaConf.set_readonly(full.hydra, False)
    with open_dict(full.hydra):
        full.hydra.mode = RunMode.RUN
        full.hydra.runtime.cwd = os.getcwd()
        full.hydra.job.name = conf.parent.name
        RunStart().on_run_start(full)
        full.hydra.runtime.output_dir = os.path.abspath(full.hydra.run.dir)
    Path(full.hydra.runtime.output_dir).mkdir(parents=True, exist_ok=True)
    return full


@contextmanager
def _hydra_says(full: DictConfig) -> Iterator[None]:
    HydraConfig.instance().set_config(full)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = None
