"""Projections that several matrices share, such as those to query, key and value: cut into each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.assignment.hidden.cut import LEAST, Cut, Hidden, shapes

KEY = "optim_wrapper.split_fused"

# What `true` splits, and into how many parts; of a name both its module's and its own part count.
_KNOWN = {
    re.compile(r"(?:.*_)?(?:qkv|Wqkv)(?:_proj)?|in_proj_weight|c_attn"): 3,
    re.compile(r"(?:.*_)?kv(?:_proj)?|gate_up_proj"): 2,
}
_BY_HEAD = ("query_key_value",)  # each head has its rows of query, key and value beside each other


def cut_fused(found: Sequence[Hidden], split_fused: Any) -> list[Hidden]:
    """Return hidden matrices, those that `split_fused` names cut into equal parts, or into those that it tells.

    Args:
        found: what is cut.
        split_fused: true (`qkv`, `in_proj_weight`, `kv`, `gate_up_proj` and the like), a list of parts of names,
            or a mapping from these to a number of equal parts, or their sizes; null: 3, or as the heads tell.

    Raises:
        ConfigError: a part matches no hidden matrix, or does not divide it, or heads lie between each other.
    """
    if split_fused in (None, False):
        return list(found)
    if split_fused is True:
        return [_cut_known(each) for each in found]
    asked = split_fused if isinstance(split_fused, Mapping) else dict.fromkeys(_listed(split_fused))
    names = [each.param.name for each in found]
    for part in asked:
        if not any(part in name for name in names):
            near = did_you_mean(part, sorted({piece for name in names for piece in name.split(".")}))
            raise ConfigError(f"{KEY}: {part!r} matches no hidden matrix.{near} Remove it, or correct it.")
    return [_cut_asked(each, asked) for each in found]


def _listed(value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{KEY}={value!r}: it is true, or a list of parts of names: {KEY}=[qkv].")
    return list(value)


def _cut_known(each: Hidden) -> Hidden:
    parts = each.param.name.removesuffix(".weight").split(".")
    count = next((count for known, count in _KNOWN.items() if known.fullmatch(parts[-1])), 0)
    sizes = _sizes(each, count) if count else None
    return replace(each, cut=_with(each, sizes)) if sizes and min(sizes) >= LEAST else each


def _cut_asked(each: Hidden, asked: Mapping[str, Any]) -> Hidden:
    name = each.param.name
    part = max((part for part in asked if part in name), key=len, default=None)
    if part is None:
        return each
    if any(known in name for known in _BY_HEAD):
        raise ConfigError(
            f"{KEY}: {part!r} matches {name!r}, which holds query, key and value head by head, not one after "
            "another. Leave it whole."
        )
    told = asked[part]
    if isinstance(told, Sequence) and not isinstance(told, str):
        sizes: tuple[int, ...] | None = tuple(told)
    else:
        sizes = _sizes(each, 3 if told is None else told)
    length = _length(each)
    if sizes is None or sum(sizes) != length:
        parts = told if sizes is not None else f"{told or 3} equal parts"
        raise ConfigError(
            f"{KEY}: {part!r} matches {name!r}, whose {length} rows are not {parts}. Give their sizes: "
            f"{KEY}={{{part}: [...]}}."
        )
    if min(sizes) < LEAST:
        raise ConfigError(
            f"{KEY}: {part!r} matches {name!r}, of which parts of under {LEAST} rows are no matrices. Leave it "
            "whole."
        )
    return replace(each, cut=_with(each, sizes))


def _with(each: Hidden, sizes: tuple[int, ...]) -> Cut:
    return replace(each.cut, sizes=sizes, dim=int(_has_columns(each)))


def _has_columns(each: Hidden) -> bool:
    """Whether a layer's outputs are columns, as in the Conv1D of transformers."""
    return type(each.param.owner).__name__ == "Conv1D"


def _length(each: Hidden) -> int:
    return shapes(replace(each.cut, sizes=()), each.param.tensor)[0][int(_has_columns(each))]


def _sizes(each: Hidden, count: int) -> tuple[int, ...] | None:
    """Return the sizes of query, key and value as the heads of the module tell; else of equal parts."""
    length = _length(each)
    by_heads = _by_heads(each.param.parent or each.param.owner) if count == 3 else None
    if by_heads is not None and sum(by_heads) == length:
        return by_heads
    return (length // count,) * count if length % count == 0 else None


def _by_heads(module: nn.Module) -> tuple[int, int, int] | None:
    """Return the sizes of query, key and value, of which the latter two may have fewer heads."""
    size = getattr(module, "head_dim", None)
    places = (module, getattr(module, "config", None))
    heads = _number(places, "num_heads", "num_attention_heads")
    key_heads = _number(places, "num_key_value_heads", "num_kv_heads")
    if not isinstance(size, int) or not heads or not key_heads:
        return None
    return heads * size, key_heads * size, key_heads * size


def _number(places: Sequence[Any], *names: str) -> int:
    numbers = (getattr(place, name, None) for place in places for name in names)
    return next((number for number in numbers if isinstance(number, int)), 0)
