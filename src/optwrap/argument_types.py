"""Whether a value from a config fits the type that an argument is annotated with."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a callable's arguments; none where they cannot be resolved."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Return whether `value` may be meant for `hint`; only plain types and their containers are judged.

    A whole number fits float, true and false do not fit numbers, and a mapping (a config yet to be built) fits
    any class.

    >>> fits(3, float), fits(True, int), fits("abc", int | None), fits(None, int | None)
    (True, False, False, True)
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in typing.get_args(hint))
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple)
    if origin is Callable:
        return callable(value) or isinstance(value, Mapping)
    # Any, and classes: a config below may build an instance.
    return hint is Any or not isinstance(hint, type) or not isinstance(value, str | int | float)


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
