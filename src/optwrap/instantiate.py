"""The one place where a config's `_target_` becomes a Python object."""

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import hydra.utils
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from optwrap.argument_types import describe, fits, type_hints
from optwrap.errors import ConfigError, did_you_mean
from optwrap.hydra_versions import declared_targets, refusal


def plain(cfg: Any, key: str) -> dict[str, Any]:
    """Return `cfg` (a mapping or a DictConfig) as a new dict of plain containers.

    Raises:
        ConfigError: `cfg` is no mapping; `key` is its place in the whole config, for the message.
    """
    if isinstance(cfg, DictConfig):
        try:
            cfg = OmegaConf.to_container(cfg, resolve=True)
        except OmegaConfBaseException as error:
            raise ConfigError(_unset_source(error) or f"{key}: {error}") from error
    if not isinstance(cfg, Mapping):
        raise ConfigError(f"{key}={cfg!r}: a mapping is needed here, such as {{_target_: package.Class, ...}}.")
    return {str(name): _copy(value) for name, value in cfg.items()}


def _unset_source(error: OmegaConfBaseException) -> str | None:
    """Explain an interpolation of a key that is not there."""
    found = re.search(r"Interpolation key '([^']+)' not found", str(error))
    if found is None:
        return None
    group, _, name = found[1].rpartition(".")
    place = f"the file of {group} that was chosen" if group else "the config"
    return (
        f"{found[1]} is not set, and {error.full_key} is read from it: add `{name}: ...` to {place}, or give "
        f"+{found[1]}=..."
    )


def partial(cfg: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Return the callable that `cfg['_target_']` names, with the other entries bound as arguments.

    Raises:
        ConfigError: the target is missing or cannot be found, or does not take one of the arguments.
    """
    cfg = dict(cfg)
    target = cfg.get("_target_")
    if target in (None, "???"):
        hint = " (MMEngine's type= is spelled _target_= here)" if "type" in cfg else ""
        raise ConfigError(f"{key}._target_ is not set: name a class by its import path{hint}.")
    missing = [name for name, value in cfg.items() if isinstance(value, str) and value == "???"]
    if missing:
        raise ConfigError(f"{key}.{missing[0]} is not set: {target} needs a value, as in {key}.{missing[0]}=...")
    arguments = {name: value for name, value in cfg.items() if not name.startswith("_")}
    located = target if callable(target) else locate(str(target), f"{key}._target_")
    _check_arguments(located, arguments, key)
    # From Python Hydra would turn a class into its import path, which a local one lacks. Of bare values it makes
    # nothing, and takes over a millisecond.
    if callable(target) or (set(cfg) == {"_target_", *arguments} and all(map(_is_bare, arguments.values()))):
        return functools.partial(located, **arguments)
    try:
        return hydra.utils.instantiate(
            cfg, _partial_=True, _convert_="all", **declared_targets(targets=_targets(cfg))
        )
    except (HydraException, ImportError, TypeError, ValueError) as error:  # since 1.4 those of nested targets too
        raise ConfigError(f"{key}: {_first_line(error)}") from error


def build(cfg: Any, key: str, *args: Any, **kwargs: Any) -> Any:
    """Call what `cfg['_target_']` names with `args`, `kwargs` and the other entries of `cfg`.

    Raises:
        ConfigError: as `partial` does, or where the target refuses its arguments with a ValueError.
    """
    arguments = plain(cfg, key)
    bound = partial(arguments, key)
    try:
        return bound(*args, **kwargs)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{_blame(key, arguments, str(error))}: {error}") from error


def locate(path: str, key: str) -> Any:
    """Import the object at the dotted `path`.

    Raises:
        ConfigError: there is none; the message names the nearest one in the same module.
    """
    module_path, _, name = path.rpartition(".")
    try:
        # Through instantiate, which refuses dangerous targets, as get_object does not.
        cfg = {"_target_": path, "_partial_": True}
        return hydra.utils.instantiate(cfg, **declared_targets(targets=[path])).func
    except HydraException as error:
        refused = refusal(str(error))
        hint = "" if refused else _nearest_in_module(module_path, name)
        root: BaseException = error
        while root.__cause__ is not None and not refused:
            root = root.__cause__
        raise ConfigError(
            f"{key}={path!r}: cannot be imported ({_first_line(root)}).{hint} "
            "It takes the import path of a class or function, such as torch.optim.SGD."
        ) from error


def argument_names(target: Callable[..., Any]) -> list[str] | None:
    """Return the names of the arguments of `target`, or None where it takes any (`**kwargs`)."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some extension types have no signature
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]


def _blame(key: str, arguments: Mapping[str, Any], message: str) -> str:
    """Return `key.name=value` of the one argument whose value the message quotes, else `key`."""
    numbers = {name: value for name, value in arguments.items() if type(value) in (int, float)}
    quoted = [name for name, value in numbers.items() if message.endswith((f" {value}", f" {float(value)}"))]
    return f"{key}.{quoted[0]}={numbers[quoted[0]]}" if len(quoted) == 1 else key


def _check_arguments(target: Callable[..., Any], given: Mapping[str, Any], key: str) -> None:
    known = argument_names(target)
    for name in given if known is not None else []:
        if name not in known:  # type: ignore[operator]
            owner = getattr(target, "__name__", str(target))
            raise ConfigError(
                f"{key}.{name}: {owner} has no argument {name!r}.{did_you_mean(name, known or [])} "
                f"Its arguments: {', '.join(known or []) or 'none'}."
            )
    hints = type_hints(target)
    parameters = inspect.signature(target).parameters if hints else {}
    for name, value in given.items():
        is_default = name in parameters and value == parameters[name].default
        if name in hints and not is_default and not fits(value, hints[name]):
            raise ConfigError(f"{key}.{name}={value!r}: expected {describe(hints[name])}.")


def _targets(node: Any) -> Iterator[str]:
    """Yield every import path in a config."""
    if isinstance(node, Mapping):
        # The latter is what hydra.utils.get_class and its like take.
        yield from (node[name] for name in ("_target_", "path") if isinstance(node.get(name), str))
    for item in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from _targets(item)


def _nearest_in_module(module_path: str, name: str) -> str:
    try:
        module = importlib.import_module(module_path)
    except (ImportError, ValueError):
        return ""
    return did_you_mean(name, (other for other in dir(module) if callable(getattr(module, other, None))))


def _first_line(error: BaseException) -> str:
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return refusal(lines[0]) or lines[0].partition(", set env var")[0].rstrip(":.")


def _is_bare(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_bare, value))
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and "${" not in value)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
