"""Words for OmegaConf's errors: an unknown key, a wrong type, a missing value."""

import dataclasses
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from optwrap.config.command_line import CommandLine
from optwrap.config.messages.wrapper_errors import needs_mixin, no_optimizer
from optwrap.errors import did_you_mean


def explain_node(error: OmegaConfBaseException, line: CommandLine, place: str = "") -> str:
    """Return what is wrong at which key, with the nearest right key or the expected type.

    The message starts with `place`, where that is known, else with the override as typed.
    """
    key = str(error.full_key or error.key or "")
    typed = line.typed(key)
    start = place or (f"{typed}: " if typed else "")
    if isinstance(error, MissingMandatoryValue):
        return no_value(key, line)
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and isinstance(error.parent_node, DictConfig):
        return start + _unknown_key(error, key, line)
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, ValidationError):
        first = _wrong_type(error) or first
    if first.startswith(("Cannot merge DictConfig with ListConfig", "Cannot merge ListConfig with DictConfig")):
        first = (
            "a list and a mapping cannot be merged, and what was chosen before has the other one there. For a "
            "schedule in parts choose constant, then add it: schedule=constant '+schedule.lr=[...]'."
        )
    return start + first if not key or key == start.partition("=")[0] else f"{start}{key}: {first}"


def _unknown_key(error: OmegaConfBaseException, full_key: str, line: CommandLine) -> str:
    parent, key = error.parent_node, str(error.key)
    above = str(full_key).rpartition(".")[0]
    typed = line.typed(full_key) or ""
    if of_mixin := needs_mixin(key, above, error.object_type, line):
        return of_mixin
    keys = [str(name) for name in parent if name != "hydra"]
    below = [f"{above}.{path}".lstrip(".") for path in _paths_to(parent, key)]
    if above == "optim_wrapper.optimizer" and "_target_" in typed:
        hint = " For another class leave the optimizer out of the list: 'optim_wrapper=[]' or '[amp]'."
    elif below:
        hint = f" Did you mean {' or '.join(map(repr, below[:3]))}?"
    else:
        groups = line.groups("hydra" if key.startswith("hydra/") else "") if not above else []
        hint = did_you_mean(key, [*groups, *keys])
    kind = _class_name(error.object_type) if above else ""
    owner = (f"{above} ({kind})" if kind else above) or "the config"
    if not keys and key in (line.options(above) if above in line.groups() else ()):
        return f"{above}={key} is not chosen, so {full_key} is not there. Add it: {above}=[{key}]."
    if not keys:
        return f"{owner} is null or empty, so {key!r} in it cannot be set; set {above} as a whole."
    hint += _if_chosen(typed, line)
    return f"{owner} has no key {key!r}.{hint}\n{listing('Its keys', keys)}"


def _if_chosen(typed: str, line: CommandLine) -> str:
    """Return how to set a key that only the swept options of a group have: Hydra composes once without them."""
    swept = [group for group in line.groups() if len(line.choices(group)) > 1]
    key, _, value = typed.partition("=")
    if not swept or not value or key in swept:
        return ""
    return f" If what {swept[0]} is swept over has it, give it as a choice of one: '{key}=choice({value})'."


def _paths_to(node: DictConfig, key: str) -> Iterator[str]:
    """Yield the dotted paths below the children of `node` that end in `key`."""
    for name, child in node.items_ex(resolve=False):
        is_open = isinstance(child, DictConfig) and not child._is_none() and not child._is_missing()
        if name == "hydra" or not is_open or child._is_interpolation():
            continue
        if key in child and not isinstance(child._get_node(key), DictConfig):
            yield f"{name!s}.{key}"
        yield from (f"{name!s}.{path}" for path in _paths_to(child, key))


def _wrong_type(error: ValidationError) -> str | None:
    owner = error.object_type
    items = dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ()
    hint = next((item.type for item in items if item.name == error.key), None)
    if hint is None or (error.value is None and "not Optional" not in str(error)):
        return None
    value = "null" if error.value is None else repr(error.value)
    return f"expected {_type_name(hint)}, got {value}."


def _type_name(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        options = [item for item in typing.get_args(hint) if item is not type(None)]
        return " or ".join([*map(_type_name, options), "null"])
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(hint.__members__)}"
    if typing.get_origin(hint) is list:
        return f"a list of {_type_name(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) is dict or dataclasses.is_dataclass(hint):
        return "a mapping"
    return str(getattr(hint, "__name__", hint))


def no_value(key: str, line: CommandLine) -> str:
    """Say how to give a missing value; the optimizer comes from a mixin."""
    return no_optimizer(key, line) or f"{key} has no value; set it: {key}=..."


def _class_name(cls: Any) -> str:
    return cls.__name__.removesuffix("Config") if isinstance(cls, type) and dataclasses.is_dataclass(cls) else ""


def listing(title: str, names: Iterable[str]) -> str:
    """Return `title: a, b, c.`, folded."""
    return textwrap.fill(f"{title}: {', '.join(names)}.", 100, subsequent_indent="  ")
