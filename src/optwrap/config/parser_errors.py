"""Reading YAML that may be anything: what PyYAML and OmegaConf raise at it, and how much of it is read."""

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
    return OmegaConf.load(path)


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
