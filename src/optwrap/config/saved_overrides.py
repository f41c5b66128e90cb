"""What a run's folder says that the run was told: the folder may come from elsewhere, so it is data."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from optwrap.config.parser_errors import PARSER_ERRORS, load_bounded
from optwrap.config.train_schema import TrainConfig
from optwrap.config.trusted import PACKAGES, check_code, named_code
from optwrap.errors import ConfigError, first_line

SAVED = Path(".hydra") / "overrides.yaml"
_VALUES = frozenset(each.name for each in fields(TrainConfig) if each.type in (str, str | None))
"""Top-level keys whose value may be a path: they are no groups."""
_REMEDY = "If you trust this run, type the override again, beside resume=."
# A resolver can make a node of a text, and so a `_target_` that is not to be seen here; these two do not.
_PLACE = re.compile(r"[/\\]|[A-Za-z]:[/\\]|\w+://")
_RESOLVER = re.compile(r"\$\{(?!\s*(oc\.env|now)\s*:)[^}]*[:{]")


def read_saved(folder: Path) -> list[str]:
    """Return the overrides that the run was started with, less those of Hydra itself and `resume`.

    Raises:
        ConfigError: the folder is no run's, or what it holds is no list of overrides.
    """
    path = folder / SAVED
    if not path.is_file():
        raise ConfigError(f"resume={folder}: this is no run's folder: it has no {SAVED}.")
    try:
        overrides = OmegaConf.to_container(load_bounded(path))
    except PARSER_ERRORS as error:
        raise ConfigError(f"resume={folder}: {SAVED} cannot be read ({first_line(error)}).") from error
    if not isinstance(overrides, list) or not all(isinstance(each, str) for each in overrides):
        raise ConfigError(f"resume={folder}: {SAVED} is no list of overrides.")
    return [text for text in overrides if not _is_hydras(_parsed(text, folder))]


def check_saved(overrides: Sequence[str], folder: Path) -> None:
    """Check that what a run was told names no code but that of the trusted packages, and no config elsewhere.

    Raises:
        ConfigError: an override does.
    """
    for text in overrides:
        override = _parsed(text, folder)
        key, value = override.key_or_group, override.value()
        words = list(_words(value))
        options = words if "." not in key and key not in _VALUES and not isinstance(value, dict) else []
        if any(map(_leaves_the_folder, options)):
            raise ConfigError(f"resume={folder}: its override {text} leaves the folder of configs. {_REMEDY}")
        if any(_RESOLVER.search(word) for word in words):
            raise ConfigError(f"resume={folder}: its override {text} is more than a value. {_REMEDY}")
        above, _, name = key.rpartition(".")
        node, place = ({name: value}, above) if name == "_target_" else (value, key)
        check_code(node, f"resume={folder}: {place}", PACKAGES, _REMEDY)


def check_composed(cfg: DictConfig, overrides: Sequence[str], folder: str) -> None:
    """Check what came of overrides that `check_saved` has passed: by interpolation, texts may make a path to code.

    Raises:
        ConfigError: the config names code that is not trusted, and that nobody spells out.
    """
    if not overrides:
        return
    spelt: Any = OmegaConf.to_container(cfg, resolve=False)
    try:
        resolved: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    except PARSER_ERRORS as error:
        raise ConfigError(f"resume={folder}: its config cannot be read ({first_line(error)}).") from error
    remedy = f"If you trust this run, type its whole command with hydra.run.dir={folder} resume=auto."
    written = {path for key in spelt for _, path, _ in named_code(spelt[key], key)}
    for key, node in resolved.items():
        for place, path, is_target in named_code(node, key):
            if path not in written:
                check_code(
                    {"_target_": path} if is_target else path, f"resume={folder}: {place}", PACKAGES, remedy
                )


def _leaves_the_folder(option: str) -> bool:
    """Whether the option of a group, which is a file, lies elsewhere than the group."""
    return bool(_PLACE.match(option)) or ".." in re.split(r"[/\\]", option)


def _parsed(text: str, folder: Path) -> Override:
    try:
        return OverridesParser.create().parse_override(text)
    except (HydraException, RecursionError) as error:
        shown = text if len(text) < 200 else f"{text[:200]}..."
        raise ConfigError(f"resume={folder}: {SAVED} holds {shown!r}, which is no override.") from error


def _is_hydras(override: Override) -> bool:
    places = (override.key_or_group, override.package or "")
    return any(re.split(r"[./]", place)[0] in ("hydra", "resume") for place in places)


def _words(value: Any) -> Iterator[str]:
    """Yield every text in the value of an override."""
    if isinstance(value, dict):
        for item in (*value, *value.values()):
            yield from _words(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)
    elif isinstance(value, str):
        yield str(value)
