"""What a model says of its own layers, as timm's `group_matcher` and MMPretrain's `get_layer_depth` do."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from optwrap.optim.assignment.params import NamedParam, unwrap

_WITH_PREVIOUS = 99999.0  # timm's mark at the end of an ordinal: the layer before it
_UNNAMED = (float("inf"),)  # what no pattern matches comes last: the head

Exponents = dict[str, int]
_Ordinal = tuple[float, ...]


def told_exponents(model: nn.Module, params: Sequence[NamedParam], by: str = "block") -> tuple[Exponents, str]:
    """Return by how many layers each parameter lies below the last one, and the method that says so.

    `get_layer_depth(name)` returns a layer and how many there are; `group_matcher(coarse)` returns a function of
    a name, or patterns: what they capture are ordinals that sort the parameters into layers, stages with
    `by='stage'`. Nothing comes back, and '', where the model has neither, or sees one layer only.
    """
    model = unwrap(model)
    names = [param.name for param in params]
    if by == "block" and callable(depth := getattr(model, "get_layer_depth", None)):
        told = {name: depth(name) for name in names}
        exponents = {name: int(count) - 1 - int(layer) for name, (layer, count) in told.items()}
        return exponents, "get_layer_depth"
    if not callable(matcher := getattr(model, "group_matcher", None)):
        return {}, ""
    try:
        layers = group(names, matcher(coarse=by == "stage"))
    except (AssertionError, NotImplementedError):  # as timm's models say that they have none
        return {}, ""
    last = max(layers.values(), default=0)
    return ({name: last - layer for name, layer in layers.items()}, "group_matcher") if last else ({}, "")


def group(names: Sequence[str], matcher: Any) -> dict[str, int]:
    """Return the layer of each name: its rank among the ordinals that `matcher` gives.

    Args:
        names: those of the parameters.
        matcher: a function from a name to a number or several, or a mapping whose values are a pattern, or
            pairs of a pattern and what is added to the numbers that it captures; None is passed over.

    >>> group(["stem.w", "blocks.0.w", "blocks.1.w", "norm.w", "head.w"], {
    ...     "stem": r"^stem", "blocks": [(r"^blocks\\.(\\d+)", None), (r"^norm", (99999,))]
    ... })
    {'stem.w': 0, 'blocks.0.w': 1, 'blocks.1.w': 2, 'norm.w': 2, 'head.w': 3}
    """
    ordinal = _by_patterns(matcher) if isinstance(matcher, Mapping) else _by_function(matcher)
    ordinals = {name: ordinal(name) for name in names}
    layers: dict[_Ordinal, int] = {}
    layer = -1
    for each in sorted(set(ordinals.values())):
        layer += layer < 0 or each[-1] != _WITH_PREVIOUS
        layers[each] = layer
    return {name: layers[each] for name, each in ordinals.items()}


def _by_function(matcher: Callable[[str], Any]) -> Callable[[str], _Ordinal]:
    def ordinal(name: str) -> _Ordinal:
        value = matcher(name)
        return tuple(map(float, value)) if isinstance(value, Iterable) else (float(value),)

    return ordinal


def _by_patterns(matcher: Mapping[str, Any]) -> Callable[[str], _Ordinal]:
    patterns = []
    for place, given in enumerate(matcher.values()):
        pairs = [(given, None)] if isinstance(given, str) else given or ()
        patterns += [(place, re.compile(pattern), tuple(added or ())) for pattern, added in pairs]

    def ordinal(name: str) -> _Ordinal:
        for place, pattern, added in patterns:
            if match := pattern.match(name):
                return tuple(
                    map(float, (place, *(number for number in match.groups() if number is not None), *added))
                )
        return _UNNAMED

    return ordinal
