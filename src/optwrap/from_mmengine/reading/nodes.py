"""What a config holds while it is read: mappings with attributes, and names of what it would import."""

import importlib
from collections.abc import Mapping
from typing import Any

from optwrap.errors import ConfigError

DELETE = "_delete_"


class Node(dict[str, Any]):
    """A mapping whose entries are attributes too, as those that a config takes from its bases.

    >>> node = Node.of({"model": {"depth": 50}})
    >>> node.model.merge({"width": 2})
    >>> node.model.depth, node.model.width
    (50, 2)
    """

    @classmethod
    def of(cls, value: Any) -> Any:
        """Return a copy of plain containers, each mapping in it one of these."""
        if isinstance(value, Mapping):
            return cls({key: cls.of(item) for key, item in value.items()})
        if isinstance(value, list | tuple):
            return type(value)(map(cls.of, value))
        return value

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, Node.of(value))  # a copy: what was put in does not follow what it came from

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def merge(self, other: Mapping[str, Any]) -> None:
        """Take over `other`, mapping by mapping; one with `_delete_=True` replaces what is here."""
        whole = merged(other, self)
        self.clear()
        self.update(Node.of(whole))


class Named:
    """The name of what a config imports, which is not imported; only a call imports it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __str__(self) -> str:
        return self._path

    def __getattr__(self, name: str) -> "Named":
        if name.startswith("__"):
            raise AttributeError(name)
        return Named(f"{self._path}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Import what is named, and call it.

        Raises:
            ConfigError: it cannot be imported.
        """
        parts = self._path.split(".")
        try:
            found: Any = importlib.import_module(parts[0])
            for i, part in enumerate(parts[1:], start=2):
                found = getattr(found, part, None) or importlib.import_module(".".join(parts[:i]))
        except ImportError as error:
            raise ConfigError(
                f"the config calls {self._path} when it is read, which cannot be imported ({error}). Install the "
                "package, or write in the config what the call returns."
            ) from error
        return found(*args, **kwargs)


def merged(over: Mapping[str, Any], base: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return `base` with `over` on top of it, mapping by mapping.

    Raises:
        ConfigError: a mapping stands over something that is none.

    >>> merged({"a": {"y": 2}, "b": {"_delete_": True, "z": 3}}, {"a": {"x": 1}, "b": {"x": 1}})
    {'a': {'x': 1, 'y': 2}, 'b': {'z': 3}}
    """
    result = dict(base)
    for key, value in over.items():
        below = result.get(key, {})
        if key == DELETE:
            continue
        if not isinstance(value, Mapping):
            result[key] = value
        elif value.get(DELETE):
            result[key] = merged(value, {})
        elif not isinstance(below, Mapping) and key in result:
            raise ConfigError(
                f"{where}{key}: a mapping cannot be merged into {below!r} of the base. Add _delete_=True to it, "
                "to replace that."
            )
        else:
            result[key] = merged(value, below, f"{where}{key}.")
    return result


def plain(value: Any) -> Any:
    """Return dicts and lists of bare values; a name or a class is its import path, as a text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if key != DELETE}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)
