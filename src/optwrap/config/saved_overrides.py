"""What a run's folder says that the run was told: the folder may come from elsewhere, so it is data."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from optwrap.config.parser_errors import PARSER_ERRORS
from optwrap.config.trusted import PACKAGES, check_targets
from optwrap.errors import ConfigError, first_line

SAVED = Path(".hydra") / "overrides.yaml"
_REMEDY = "If you trust this run, type the override again, beside resume=."
_CODE = (*PACKAGES, "torch.optim", "optwrap.optim")
# A resolver can make a node of a text, and so a `_target_` that is not to be seen here; these two do not.
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
        overrides = OmegaConf.to_container(OmegaConf.load(path))
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
        if "." not in key and any(".." in word.split("/") for word in words):  # an option of a group is a file
            raise ConfigError(f"resume={folder}: its override {text} leaves the folder of configs. {_REMEDY}")
        if any(_RESOLVER.search(word) for word in words):
            raise ConfigError(f"resume={folder}: its override {text} is more than a value. {_REMEDY}")
        above, _, name = key.rpartition(".")
        node, place = ({name: value}, above) if name == "_target_" else (value, key)
        check_targets(node, f"resume={folder}: {place}", _CODE, _REMEDY)


def _parsed(text: str, folder: Path) -> Override:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError(f"resume={folder}: {SAVED} holds {text!r}, which is no override.") from error


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
