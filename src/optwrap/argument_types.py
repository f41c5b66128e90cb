"""Whether a value from a config fits the type that an argument is annotated with."""

import inspect
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a callable's arguments; none where they cannot be resolved."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations may be prose, or name what only a type checker sees
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Return whether `value` may be meant for `hint`; only plain types and their containers are judged.

    A whole number fits float, true and false do not fit numbers. A config yet to be built fits anything, and
    any value fits a type that is not judged.

    >>> fits(3, float), fits(True, int), fits("abc", int | None), fits(None, int | None)
    (True, False, False, True)
    """
    origin = typing.get_origin(hint)
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in typing.get_args(hint))
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if origin in (list, tuple, Sequence):
        return isinstance(value, Sequence) and not isinstance(value, str)
    if origin is Callable:
        return callable(value)
    if isinstance(hint, type) and isinstance(value, str | int | float):
        # Plain values stand for much (a path, an enum, a name of weights), never for a module or a data set.
        return not any(base.__module__.startswith(_BUILT_ONLY) for base in hint.__mro__)
    return True


_BUILT_ONLY = ("torch.nn.modules", "torch.utils.data")


def describe(hint: Any) -> str:
    """Return a type as a user would say it.

    >>> describe(int | None), describe(Sequence[float])
    ('int or null', 'a list')
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(part) for part in typing.get_args(hint))
    if hint is None or hint is type(None):
        return "null"
    if origin in (list, tuple, Sequence):
        return "a list"
    if origin is Callable:
        return "a function's config"
    return getattr(hint, "__name__", str(hint))
