"""What a part of a config becomes here, and what of it has to be done by hand."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Part:
    """A part of an experiment: options of its group, and its keys.

    A line each says what could not be carried over (`left`), and what was and is to be known (`notes`). `inner`
    holds parts that stand below it by name, as those of several wrappers.
    """

    options: list[str] = field(default_factory=list)
    keys: dict[str, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    inner: dict[str, "Part"] = field(default_factory=dict)

    def leave(self, key: str, value: Any, by_hand: str) -> None:
        """Say that `key` was not carried over, and the line that does it by hand."""
        self.left.append(f"{key}={shown(value)}: {by_hand}")

    def leave_rest(self, where: str, given: dict[str, Any], known: Iterable[str]) -> None:
        """Say of every further key that nothing here reads it."""
        for name in given.keys() - {*known, "_scope_"}:
            self.leave(f"{where}.{name}", given[name], "nothing here is called so; see docs/from_mmengine.md")
        self.left.sort()

    def add(self, other: "Part") -> None:
        """Take over all that another part says."""
        self.options += other.options
        self.keys |= other.keys
        self.left += other.left
        self.notes += other.notes
        self.inner |= other.inner


def shown(value: Any) -> str:
    """Return a value as YAML has it in a line, shortened.

    >>> shown({"a": [1, None]}), shown("x" * 100)[-4:]
    ('{a: [1, null]}', 'x...')
    """
    if isinstance(value, dict):
        text = f"{{{', '.join(f'{name}: {shown(item)}' for name, item in value.items())}}}"
    elif isinstance(value, list):
        text = f"[{', '.join(map(shown, value))}]"
    elif value is None:
        text = "null"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 90 else f"{text[:87]}..."


def last_name(target: Any) -> str:
    """Return the last part of a dotted name; of a type in a registry, of a scope (`mmdet.SGD`).

    >>> last_name("mmpretrain.engine.optimizers.Lamb"), last_name("SGD")
    ('Lamb', 'SGD')
    """
    return str(target).rpartition(".")[2]
