"""A run's folder: one run's alone, with the config that it was told."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from optwrap.errors import ConfigError

CONFIG = ".hydra"
_ROWS = "metrics.csv"
_LOCK = ".lock"


@contextlib.contextmanager
def open_folder(cfg: DictConfig) -> Iterator[None]:
    """Hold the job's folder while it runs; save the config of a new run, as Hydra would.

    That of an earlier run stays until the run has gone on (`save_config`): a refused start changes no file.

    Raises:
        ConfigError: the folder holds a run and `resume` is null, or another process works in it.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    with _locked(folder):
        if not (folder / _ROWS).exists():
            save_config(folder, cfg)
        elif cfg.get("resume") is None:
            raise ConfigError(
                f"hydra.run.dir={folder}: this folder already holds a run. Go on with it by resume=auto beside "
                "the same command, or choose another: by default its name is the time to the second."
            )
        yield


def save_config(folder: Path, cfg: DictConfig) -> None:
    """Write the task's config, Hydra's own and the overrides into `.hydra`, each whole or not at all."""
    hydra = HydraConfig.get()
    (folder / CONFIG).mkdir(exist_ok=True)
    contents = {
        "config.yaml": OmegaConf.to_yaml(cfg),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})),
        "overrides.yaml": OmegaConf.to_yaml(hydra.overrides.task),
    }
    for name, text in contents.items():
        temporary = folder / CONFIG / f"{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / CONFIG / name)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold an advisory lock, which the kernel frees whatever ends the process."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with (folder / _LOCK).open("w") as file:
        try:
            # lockf and not flock: data workers, which outlive a killed run by seconds, do not inherit it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"hydra.run.dir={folder}: another process works in this folder. Wait for its end, or end it."
            ) from error
        yield
