"""A run's folder: one run's alone, with the config that it was told."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from optwrap.config.resuming import AUTO
from optwrap.errors import ConfigError
from optwrap.files import drop_temporaries, write_text
from optwrap.interpolations import settled
from optwrap.lock import LOCK, BusyError, locked
from optwrap.program.processes import parent_reports, rank_suffix, started_by_torchrun
from optwrap.sweep.callback import made_new

CONFIG = ".hydra"
DIR = "hydra.run.dir="
_ROWS = "metrics.csv"
_OF_ANY_START = (CONFIG, LOCK, "train*.log")


class RunStart(Callback):
    """Make the folder of a new run, under torchrun left to rank 0 (`Processes.agree_on_folder`)."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this before a run by itself."""
        if not started_by_torchrun() and config.get("resume") in (None, "", AUTO):
            made_new(config.hydra.run)


def run_folder() -> Path:
    """Return the folder that the run which Hydra has started writes into.

    Raises:
        ConfigError: it has no name: this would be the folder that the program was started in.
    """
    hydra: Any = HydraConfig.get()
    if getattr(hydra, "mode", None) == RunMode.RUN and hydra.run.dir in ("", None):
        raise ConfigError(f"{DIR}{hydra.run.dir}: a folder has a name. Give one, or leave hydra.run.dir out.")
    return Path(hydra.runtime.output_dir)


@contextmanager
def dropped_start(leaves: Callable[[BaseException], bool]) -> Iterator[None]:
    """Remove the folder with the error that ends a start, unless it `leaves` it or there is more in it.

    Of several ranks nobody does, where a process above them holds the folder.
    """
    folder = run_folder()
    try:
        yield
    except BaseException as error:
        if not rank_suffix() and not parent_reports() and not leaves(error):
            with suppress(BusyError, OSError), locked(folder):
                started = {path for name in _OF_ANY_START for path in folder.glob(name)}
                if started.issuperset(folder.iterdir()):
                    shutil.rmtree(folder)
        raise


@contextmanager
def open_folder(cfg: DictConfig) -> Iterator[None]:
    """Hold the run's folder while it runs, and claim it; of several ranks the first does so for all.

    Raises:
        ConfigError: another process works in it, or as `claim_folder`.
    """
    folder = run_folder()
    with ExitStack() as held:
        if rank_suffix():
            _check_one_folder(folder)
        else:
            _hold(folder, cfg, held)
            if started_by_torchrun():
                _check_one_folder(folder)
        yield


def _hold(folder: Path, cfg: DictConfig, held: ExitStack) -> None:
    try:
        if not parent_reports():  # which holds the folder for its ranks
            held.enter_context(locked(folder))
    except BusyError as error:
        raise ConfigError(
            f"hydra.run.dir={folder}: another process works in this folder. Wait for its end, or end it."
        ) from error
    claim_folder(cfg)


def _check_one_folder(folder: Path) -> None:
    """Wait until rank 0 has claimed the folder, which must be that of all ranks."""
    from optwrap.plan.ranks import Ranks  # here: alone, no run needs torch so early

    first = Ranks.current().first(str(folder))
    if first != str(folder):
        raise ConfigError(
            f"hydra.run.dir={folder}: rank 0 works in {first}. A time in the name differs between processes: "
            "give a name without, or leave hydra.run.dir out."
        )


def claim_folder(cfg: DictConfig) -> None:
    """Save the config of a new run, as Hydra would, and remove what a killed one was in the midst of writing.

    That of an earlier run stays until the run has gone on (`save_config`): a refused start changes no file.

    Raises:
        ConfigError: the folder holds a run and `resume` is null.
    """
    folder = run_folder()
    if not (folder / _ROWS).exists():
        save_config(folder, cfg)
    elif cfg.get("resume") is None:
        raise ConfigError(
            f"hydra.run.dir={folder}: this folder already holds a run. Go on with it by resume=auto beside "
            "the same command, or choose another: by default it is a new one, named by the time."
        )
    drop_temporaries(folder)
    if (folder / CONFIG).is_dir():
        drop_temporaries(folder / CONFIG)


def check_still_there(error: Exception) -> None:
    """Name the cause of an error where somebody has taken the folder away from the run.

    Raises:
        ConfigError: somebody has.
    """
    if not (folder := run_folder()).is_dir():
        raise ConfigError(
            f"{folder}: the run's folder is gone. It was moved or deleted while the run wrote into it: start "
            "the run anew or, where it was moved, go on there by resume=..."
        ) from error


def save_config(folder: Path, cfg: DictConfig) -> None:
    """Write the task's config, Hydra's own and the overrides into `.hydra`, each whole or not at all."""
    hydra = HydraConfig.get()
    (folder / CONFIG).mkdir(exist_ok=True)
    contents = {
        "config.yaml": OmegaConf.to_yaml(OmegaConf.create(settled(cfg))),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})),
        "overrides.yaml": OmegaConf.to_yaml(hydra.overrides.task),
    }
    for name, text in contents.items():
        write_text(folder / CONFIG / name, text)
