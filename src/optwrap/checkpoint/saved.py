"""Read what a finished run saved of its config."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, UnsupportedInterpolationType

from optwrap import pretrained_input
from optwrap.argument_types import fits
from optwrap.config.parser_errors import PARSER_ERRORS, load_bounded
from optwrap.config.train_schema import TrainConfig
from optwrap.config.trusted import PACKAGES, only_trusted
from optwrap.errors import ConfigError, did_you_mean, first_line


def load_config(folder: Path, overrides: Sequence[str], own: Iterable[str] = ("run", "split")) -> DictConfig:
    """Return the config that the run in `folder` was started with, with further `key=value` overrides.

    `own` are the program's keys beside those of the config: one of them may be meant.

    Raises:
        ConfigError: the folder is no run's, or an override does not fit its config.
    """
    path = folder / ".hydra" / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"run={folder}: this is no run's folder: it has no .hydra/config.yaml.")
    pretrained_input.register()
    try:
        cfg = load_bounded(path)
    except PARSER_ERRORS as error:
        raise ConfigError(f"{path}: this is no YAML that can be read ({first_line(error)}).") from error
    missing = [key for key in _NEEDED if not isinstance(cfg, DictConfig) or key not in cfg]
    if missing:
        raise ConfigError(f"{path}: this config is not one of train.py's: it has no {', '.join(missing)}.")
    cfg = cast(DictConfig, OmegaConf.merge(_defaults(), cfg))  # an earlier version's has not all keys
    for override in overrides:
        key = override.partition("=")[0]
        try:
            saved = OmegaConf.select(cfg, key, default=_ABSENT, throw_on_missing=False)
        except (InterpolationResolutionError, UnsupportedInterpolationType):
            saved = None  # what it was said by is not here: any value may take its place
        except PARSER_ERRORS as error:
            raise ConfigError(f"{override}: {key!r} is no key ({first_line(error)}).") from error
        if saved is _ABSENT:
            keys = [*_keys(OmegaConf.to_container(cfg)), *own]
            raise ConfigError(f"{override}: the run's config has no key {key!r}.{did_you_mean(key, keys)}")
        try:
            value = OmegaConf.select(OmegaConf.merge(cfg, OmegaConf.from_dotlist([override])), key)
        except PARSER_ERRORS as error:
            raise ConfigError(f"{override}: {first_line(error)}") from error
        if isinstance(saved, DictConfig) and not isinstance(value, DictConfig):
            raise ConfigError(f"{override}: {key} is a group; only keys below it can be set here, as in {key}.x=1")
        kind = float if type(saved) is int and isinstance(value, float) and key not in _WHOLE else type(saved)
        if value is not None and kind in (int, float, bool) and not fits(value, kind):
            raise ConfigError(f"{override}: expected {kind.__name__}.")
        OmegaConf.update(cfg, key, value)
    return cfg


def load_trusted_config(
    folder: Path, overrides: Sequence[str], allow: Sequence[str], own: Iterable[str] = ("run", "split")
) -> DictConfig:
    """Return the same, where all that it builds is of trusted packages or of those in `allow`.

    Raises:
        ConfigError: as `load_config` and `only_trusted`.
    """
    return only_trusted(load_config(folder, overrides, own), ("data", "model", "task"), (*PACKAGES, *allow))


_WHOLE = ("batch_size", "num_workers", "seed")
_NEEDED = ("data", "model", "task", "seed", "device", "batch_size")
_ABSENT = object()


def _defaults() -> dict[str, Any]:
    """Return the values that the keys of `TrainConfig` have where nobody sets them."""
    schema: Any = OmegaConf.to_container(OmegaConf.structured(TrainConfig), enum_to_str=True)
    return {key: value for key, value in schema.items() if value != "???"}


def _keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    return [name for key, item in node.items() for name in (f"{prefix}{key}", *_keys(item, f"{prefix}{key}."))]
