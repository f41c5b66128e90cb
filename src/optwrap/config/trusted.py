"""Which code a config from elsewhere may name: only what lies in packages that are trusted for it."""

import importlib
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from optwrap.config.parser_errors import PARSER_ERRORS
from optwrap.errors import ConfigError, first_line

PACKAGES = (
    *("optwrap.vision", "experiments", "torch.nn", "torchmetrics"),
    *("torchvision.models", "torchvision.ops", "torchvision.transforms"),
)
"""Packages of models, data sets, transforms and metrics. `torch` as a whole is none: `torch.hub` runs any code."""


def only_trusted(cfg: DictConfig, nodes: Sequence[str], packages: Sequence[str] = PACKAGES) -> DictConfig:
    """Return `cfg` resolved, after checking every `_target_` in its `nodes`.

    A target must be written as a path into one of `packages`, and be defined in one: `optwrap.vision.data.os`
    is neither. Nothing outside of them is imported. Hydra's own list of dangerous targets holds beside this one.

    Raises:
        ConfigError: a target is not trusted, or is not there.
    """
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
    except PARSER_ERRORS as error:
        raise ConfigError(f"The run's config cannot be read: {first_line(error)}") from error
    for node in nodes:
        check_targets(plain.get(node), node, packages, "If you trust this run, add its package: allow={package}.")
    return OmegaConf.create(plain)


def check_targets(node: Any, key: str, packages: Sequence[str], remedy: str) -> None:
    """Check every `_target_` in `node`, which stands at `key`, as `only_trusted` does.

    Raises:
        ConfigError: a target is not trusted, or is not there; `remedy` ends the message.
    """
    for place, target in _targets(node, key):
        _check(place, target, packages, remedy)


def _targets(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield f"{key}._target_", node["_target_"]
        for name, item in node.items():
            yield from _targets(item, f"{key}.{name}")
    elif isinstance(node, list):
        for i, item in enumerate(node):
            yield from _targets(item, f"{key}[{i}]")


def _check(key: str, target: Any, packages: Sequence[str], remedy: str) -> None:
    refusal = ConfigError(
        f"{key}={target}: the config of a run is data, and may name code in {', '.join(packages)} only. "
        + remedy.format(package=str(target).partition(".")[0])
    )
    if not _is_in(str(target), packages):
        raise refusal
    found = _resolve(str(target))
    if found is None:
        raise ConfigError(f"{key}={target}: there is no such class or function.")
    if isinstance(found, ModuleType) or not _is_in(getattr(found, "__module__", None) or "", packages):
        raise refusal


def _is_in(path: str, packages: Sequence[str]) -> bool:
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def _resolve(path: str) -> Any:
    """Import the longest part of `path` that is a module, and look the rest up in it; None: it is not there."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except (ImportError, ValueError):
            continue
        for name in parts[length:]:
            found = getattr(found, name, None)
        return found
    return None
