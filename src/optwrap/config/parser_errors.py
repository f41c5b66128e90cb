"""Reading YAML that may be anything: what PyYAML and OmegaConf raise at it, and how much of it is read."""

import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import Node, ScalarNode, YAMLError

PARSER_ERRORS: tuple[type[Exception], ...] = (
    *(YAMLError, OmegaConfBaseException, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(AssertionError, RecursionError, OverflowError),
)
"""Found by tests/optwrap/test_fuzz.py."""

_INTERPOLATION = re.compile(r"\$\{\s*([^${}:\s]+)\s*\}")
MOST_BYTES = 2**20
MOST_VALUES = 100_000
"""Bounds of a file: a config has some hundred values; aliases of aliases can stand for more than memory holds."""


def load_bounded(path: Path) -> Any:
    """Return what `OmegaConf.load` does.

    Raises:
        PARSER_ERRORS: the file cannot be read, or is beyond the bounds.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"it has {size} bytes, more than {MOST_BYTES}")
    text = path.read_text(encoding="utf-8")
    if _values(yaml.compose(text, yaml.SafeLoader), {}) > MOST_VALUES:
        raise ValueError(f"with its aliases it has more than {MOST_VALUES} values")
    cfg = OmegaConf.load(path)
    if _Length(OmegaConf.to_container(cfg, resolve=False)).of(()) > MOST_BYTES:
        raise ValueError(f"with its interpolations it has more than {MOST_BYTES} characters")
    return cfg


class _Length:
    """How many characters the parts of a config have where each `${key}` is replaced, at least."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self._known: dict[tuple[str, ...], int] = {}

    def of(self, path: tuple[str, ...]) -> int:
        """Return the length of what stands at `path`; of nothing, and of what takes itself from itself, 0."""
        if path not in self._known:
            self._known[path] = 0  # until it is counted: OmegaConf refuses a circle
            self._known[path] = self._counted(path, self._at(path))
        return self._known[path]

    def _counted(self, path: tuple[str, ...], value: Any) -> int:
        if isinstance(value, dict):
            return sum(self.of((*path, str(key))) for key in value)
        if isinstance(value, list):
            return sum(self.of((*path, str(index))) for index in range(len(value)))
        if not isinstance(value, str):
            return 1
        return len(value) + sum(self.of(_absolute(key, path)) for key in _INTERPOLATION.findall(value))

    def _at(self, path: tuple[str, ...]) -> Any:
        value = self._config
        for part in path:
            if isinstance(value, dict):
                value = next((each for key, each in value.items() if str(key) == part), None)
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                return None
        return value


def _absolute(key: str, path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path of the key of an interpolation that stands at `path`.

    >>> _absolute("model.width", ("task", "width")), _absolute("..seed", ("data", "split", "seed"))
    (('model', 'width'), ('data', 'seed'))
    """
    name = key.lstrip(".")
    up = len(key) - len(name)
    above = path[: max(0, len(path) - up)] if up else ()
    return (*above, *re.findall(r"[^.\[\]]+", name))


def _values(node: Node | None, known: dict[int, int]) -> int:
    """Count the values that a node stands for; `known` are those of nodes, which aliases share."""
    if node is None or isinstance(node, ScalarNode):
        return 1
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST_VALUES + 1  # until it is counted: so an alias inside of itself is too much
    parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
    known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
