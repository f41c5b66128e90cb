"""The config's `logger`: a node for each logger, checked before a run and built for it."""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from optwrap.argument_types import describe, fits
from optwrap.errors import ConfigError, did_you_mean
from optwrap.instantiate import argument_names, build, locate, partial, plain
from optwrap.loggers.protocol import Logger

CSV = "csv"
OWN_KEYS: Mapping[str, tuple[Any, type]] = {"live": (False, bool), "wait": (10.0, float)}
"""What each node may say beside its class's arguments: the default, and the type."""

_BUILT_IN = (CSV, "tensorboard", "trackio", "mlflow", "wandb")
_METHODS = ("start", "log", "artifact", "sync", "close")
_BEFORE = {  # what was a switch
    "train_rows": "logger.csv.train_rows={value}",
    "tensorboard": "logger=tensorboard",
}


def check_loggers(node: Any) -> None:
    """Check the config's `logger`: that each class is there with its package, and takes its arguments.

    Raises:
        ConfigError: one does not.
    """
    writes_train_rows(node)
    for key, each in trackers(node):
        arguments, _ = _split(key, each)
        target = _located(key, arguments)
        _check_installed(key, target)
        partial(arguments, f"logger.{key}")


def build_logger(key: str, node: Mapping[str, Any]) -> tuple[Logger, dict[str, Any]]:
    """Return the logger of a node, and the values of OWN_KEYS.

    Raises:
        ConfigError: as `check_loggers`, or it lacks a method of the protocol.
    """
    arguments, own = _split(key, node)
    _load(key, _located(key, arguments))
    found = build(arguments, f"logger.{key}")
    missing = [name for name in _METHODS if not callable(getattr(found, name, None))]
    if missing:
        raise ConfigError(
            f"logger.{key}._target_={arguments['_target_']}: it has no method {missing[0]}. Inherit from "
            "optwrap.loggers.Logger, which has all that a logger of one's own leaves out."
        )
    return found, own


def writes_train_rows(node: Any) -> bool:
    """Return whether training rows are written, which the node `csv` alone says.

    Raises:
        ConfigError: it says anything else.
    """
    csv = plain(node, "logger").get(CSV, {})
    if not isinstance(csv, dict):
        raise ConfigError(
            f"logger.csv={_shown(csv)}: metrics.csv is always written. logger=evaluations_only leaves out the "
            "training rows."
        )
    for name in csv:
        if name != "train_rows":
            hint = did_you_mean(name, ["train_rows"])
            raise ConfigError(f"logger.csv.{name}: there is no such key.{hint} It has train_rows alone.")
    rows = csv.get("train_rows", True)
    if not isinstance(rows, bool):
        raise ConfigError(f"logger.csv.train_rows={rows}: expected bool.")
    return rows


def trackers(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the nodes of the loggers beside metrics.csv; one that is null is off.

    Raises:
        ConfigError: a node is none, or lacks its `_target_`.
    """
    for key, each in plain(node, "logger").items():
        if key == CSV or each is None:
            continue
        if key in _BEFORE and isinstance(each, bool):
            now = _BEFORE[key].format(value=_shown(each))
            raise ConfigError(f"logger.{key}={_shown(each)}: this is {now} now.")
        if not isinstance(each, dict):
            raise ConfigError(
                f"logger.{key}={_shown(each)}: a logger is a node with a _target_.{_nearest(key)} A class of your "
                "own: logger.mine._target_=package.Class."
            )
        if each.get("_target_") is None:
            raise ConfigError(f"logger.{key}: it has no _target_.{_nearest(key)} {_remedy(key)}")
        yield key, each


def _split(key: str, node: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the class with its arguments, and what every node may say."""
    own = {name: node.get(name, default) for name, (default, _) in OWN_KEYS.items()}
    for name, value in own.items():
        kind = OWN_KEYS[name][1]
        if not fits(value, kind) or value < 0:
            least = " of seconds, at least 0" if name == "wait" else ""
            raise ConfigError(f"logger.{key}.{name}={_shown(value)}: expected {describe(kind)}{least}.")
    return {name: value for name, value in node.items() if name not in OWN_KEYS}, own


def _located(key: str, arguments: Mapping[str, Any]) -> Any:
    """Return the class of a node, after checking that it takes the node's keys."""
    target = arguments["_target_"]
    found = target if callable(target) else locate(str(target), f"logger.{key}._target_")
    known = argument_names(found)
    keys = [*(known or []), *OWN_KEYS]
    for name in arguments if known is not None else ():
        if name != "_target_" and name not in keys:
            raise ConfigError(
                f"logger.{key}.{name}: there is no such key.{did_you_mean(name, keys)} "
                f"Its keys: {', '.join(keys)}."
            )
    return found


def _check_installed(key: str, target: Any) -> None:
    for package in getattr(target, "packages", ()):
        if importlib.util.find_spec(package.partition(".")[0]) is None:
            raise ConfigError(
                f'logger.{key} needs the package {package}: pip install -e ".[{target.extra}]", or choose '
                "logger=csv."
            )


def _load(key: str, target: Any) -> None:
    """Import the packages of a built-in logger: in the run's thread, where one that is damaged is an error."""
    _check_installed(key, target)
    for package in getattr(target, "packages", ()):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(
                f"logger.{key}: the package {package} is there, but cannot be loaded: {error}. Install what it "
                "misses, or choose logger=csv."
            ) from error


def _nearest(key: str) -> str:
    return "" if key in _BUILT_IN else did_you_mean(key, _BUILT_IN)


def _remedy(key: str) -> str:
    if key in _BUILT_IN:
        return f"Choose it: logger={key}, or logger=[csv,{key}]."
    return (
        f"Built in are {', '.join(_BUILT_IN)}; for a class of your own give logger.{key}._target_=package.Class."
    )


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
