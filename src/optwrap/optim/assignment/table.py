"""The assignment of options to parameters, as data: merged into param groups, printed, saved."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn


@dataclass(slots=True)  # not frozen: that makes building one three times as slow
class Assignment:
    """What one parameter gets: its options (lr, weight_decay, ...) and the rule that decided them.

    `aliases` are its further names, which decided nothing.
    """

    name: str
    tensor: nn.Parameter
    options: Mapping[str, Any]
    rule: str = "base"
    aliases: tuple[str, ...] = ()


def param_groups(assignments: Iterable[Assignment]) -> list[dict[str, Any]]:
    """Return one param group for each set of equal options, in order of first appearance.

    Each group holds `params`, `param_names` and its options.

    >>> import torch
    >>> weight, bias = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    >>> groups = param_groups([Assignment("w", weight, {"lr": 0.1}), Assignment("b", bias, {"lr": 0.1})])
    >>> [(group["param_names"], group["lr"]) for group in groups]
    [(['w', 'b'], 0.1)]
    """
    groups: dict[Any, dict[str, Any]] = {}
    assignments = list(assignments)
    found: dict[int, dict[str, Any]] = {}  # by the identity of the options, which many parameters share
    for assignment in assignments:
        group = found.get(id(assignment.options))
        if group is None:
            empty = {"params": [], "param_names": [], **assignment.options}
            group = found[id(assignment.options)] = groups.setdefault(_hashable(assignment.options), empty)
        group["params"].append(assignment.tensor)
        group["param_names"].append(assignment.name)
    return list(groups.values())


def table(assignments: Iterable[Assignment]) -> list[dict[str, Any]]:
    """Return a row a parameter: name, shape, lr, weight_decay, rule, other names, then any other options."""
    rows = []
    for assignment in assignments:
        options = dict(assignment.options)
        row: dict[str, Any] = {
            "name": assignment.name,
            "shape": "x".join(map(str, assignment.tensor.shape)) or "scalar",
            "lr": options.pop("lr", None),
            "weight_decay": options.pop("weight_decay", None),
            "rule": assignment.rule,
        }
        if assignment.aliases:
            row["aliases"] = ", ".join(assignment.aliases)
        rows.append(row | options)
    return rows


def write_csv(assignments: Iterable[Assignment], path: Path) -> None:
    """Write `table(assignments)` as CSV; an option that a parameter does not set is an empty field."""
    rows = table(assignments)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, _columns(rows))
        writer.writeheader()
        writer.writerows(rows)


def format_table(assignments: Iterable[Assignment]) -> str:
    """Return `table(assignments)` as aligned text, a line a parameter under a line of column names."""
    rows = table(assignments)
    columns = _columns(rows)
    cells = [columns, *([_text(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def hits(assignments: Iterable[Assignment]) -> dict[str, int]:
    """Return how many parameters each rule decided, those of layer decay counted as one.

    >>> from torch import nn
    >>> weight = nn.Parameter()
    >>> hits([Assignment("a", weight, {}, "bias_lr_mult + decay_factor ** 2"), Assignment("b", weight, {})])
    {'bias_lr_mult': 1, 'decay_factor': 1, 'base': 1}
    """
    rules = (rule.partition(" ** ")[0] for each in assignments for rule in each.rule.split(" + "))
    return dict(Counter(rules))


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    first = ["name", "shape", "lr", "weight_decay", "rule"]
    return list(dict.fromkeys([*first, *(column for row in rows for column in row)]))


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((name, _hashable(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    return float(value) if hasattr(value, "item") else value
