"""From which files a run was composed, beside the program's own: said again to its ranks, and when it goes on."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from omegaconf import OmegaConf

from optwrap.config.command_line import quoted
from optwrap.config.parser_errors import PARSER_ERRORS, load_bounded
from optwrap.errors import ConfigError

HYDRA = Path(".hydra") / "hydra.yaml"
_NAME = ("--config-name", "-cn")
_FOLDERS = {"main": ("--config-path", "-cp"), "command-line": ("--config-dir", "-cd")}
"""Hydra's name for a source of configs -> the flags that choose it."""


def arguments_of(hydra: HydraConf) -> list[str]:
    """Return the flags and the override that compose from the same files as the run that `hydra` is of."""
    found = [f"{_NAME[0]}={hydra.job.config_name}"]
    folders = _folders(hydra.runtime.config_sources)
    found += [f"{_FOLDERS[provider][0]}={folder}" for provider, folder in folders.items()]
    if hydra.searchpath:
        found.append(f"hydra.searchpath=[{','.join(map(quoted, hydra.searchpath))}]")
    return found


def with_saved_origin(arguments: Sequence[str], folder: Path, conf: Path, config_name: str) -> list[str]:
    """Have the run in `folder` go on as one run, from the config that it was begun with.

    That must be one of the program's own folder `conf`: the run's may come from elsewhere, and configs can name
    any code. What lies elsewhere is typed again.

    Raises:
        ConfigError: the run was composed from files elsewhere, and those are not typed.
    """
    mode = [] if any(each.startswith("hydra.mode=") for each in arguments) else ["hydra.mode=RUN"]
    one_run = [*arguments, *mode]
    saved = _saved(folder)
    if saved is None:
        return one_run
    name, sources, searchpath = saved
    missing = [
        f"{flags[0]}={shlex.quote(sources[provider])}"
        for provider, flags in _FOLDERS.items()
        if provider in sources and not _typed(arguments, flags) and not _is_own(sources[provider], conf)
    ]
    if searchpath and not _searchpath(arguments):
        missing.append(shlex.quote(searchpath))
    if missing:
        raise ConfigError(
            f"resume={folder}: that run was composed from configs elsewhere, which no folder chooses. Type it "
            f"again, if you trust them: {' '.join(missing)}"
        )
    if name in (None, config_name) or _typed(arguments, _NAME):
        return one_run
    if Path(name).is_absolute() or ".." in Path(name).parts or "://" in name:
        raise ConfigError(f"resume={folder}: that run was begun with {_NAME[0]}={name}: type it again.")
    return [f"{_NAME[0]}={name}", *one_run]


def _saved(folder: Path) -> tuple[str | None, dict[str, str], str | None] | None:
    """Return the config's name, the folders of configs and the search path; None where nothing was saved."""
    if not (folder / HYDRA).is_file():
        return None
    try:
        saved: Any = OmegaConf.to_container(load_bounded(folder / HYDRA))
        hydra = saved["hydra"]
        name, searchpath = hydra["job"]["config_name"], _searchpath(hydra["overrides"]["hydra"])
        sources = _folders(hydra["runtime"]["config_sources"])
        return None if name is None else str(name), sources, searchpath
    except PARSER_ERRORS as error:
        raise ConfigError(f"resume={folder}: {HYDRA} is none of Hydra's ({type(error).__name__}).") from error


def _searchpath(overrides: Sequence[str]) -> str | None:
    return next((each for each in overrides if each.lstrip("+").startswith("hydra.searchpath=")), None)


def _folders(sources: Any) -> dict[str, str]:
    there = [each for each in sources if each["provider"] in _FOLDERS and each["schema"] == "file"]
    return {str(each["provider"]): str(each["path"]) for each in there}


def _is_own(folder: str, conf: Path) -> bool:
    """Whether a folder of configs is the program's, or was before the project was moved or copied."""
    path = Path(folder)
    return path == conf or (path.name == conf.name and (not path.is_dir() or _is_project(path, conf)))


def _is_project(path: Path, conf: Path) -> bool:
    programs = {each.name for each in conf.parent.glob("*.py")}
    return bool(programs & {each.name for each in path.parent.glob("*.py")})


def _typed(arguments: Sequence[str], flags: tuple[str, str]) -> bool:
    return any(each.partition("=")[0] in flags for each in arguments)
