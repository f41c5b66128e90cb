"""Runs as a table: which of them, in which order, on a terminal, as Markdown or as JSON."""

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from optwrap.errors import ConfigError, did_you_mean
from optwrap.runs.read import Run
from optwrap.sweep.names import label, short_number

_COMPARISON = re.compile(r"([\w./-]+)(<=|>=|!=|=|<|>)(.*)")
_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
SORTS: dict[str, Callable[[Run], Any]] = {
    "age": lambda run: -run.changed,
    "name": lambda run: str(run.folder),
    "status": lambda run: run.status,
    "objective": lambda run: -(run.objective if run.objective is not None else float("-inf")),
    "seconds": lambda run: -(run.seconds or 0.0),
}
"""What runs are sorted by: the newest, the highest or the longest first."""


def chosen(runs: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    """Return the runs that meet all conditions: `status=finished`, `seed!=0`, `test/accuracy>0.98`.

    A key is `status`, a result, or what a run was told; a run without it meets none but `!=`.

    Raises:
        ConfigError: a condition cannot be read, or its key is that of no run.
    """
    for condition in conditions:
        found = _COMPARISON.fullmatch(condition)
        if found is None:
            raise ConfigError(f"{condition}: a condition is key=value, or with !=, <, >, <=, >=.")
        key, sign, value = found.groups()
        known = {name for run in runs for name in (*run.overrides, *run.result)} | {"status", "objective"}
        if runs and key not in known:
            raise ConfigError(f"{condition}: no run has {key!r}.{did_you_mean(key, sorted(known))}")
        runs = [run for run in runs if _meets(_value(run, key), sign, value)]
    return list(runs)


def ordered(runs: Sequence[Run], by: str) -> list[Run]:
    """Return the runs sorted by one of `SORTS`.

    Raises:
        ConfigError: by none of them.
    """
    if by not in SORTS:
        raise ConfigError(f"sort={by}: it is one of {', '.join(SORTS)}.{did_you_mean(by, SORTS)}")
    return sorted(runs, key=SORTS[by])


def lines(runs: Sequence[Run], root: Path) -> list[dict[str, str]]:
    """Return a row a run; `root` is the folder that names are told from."""
    return [
        {
            "run": name_of(run, root),
            "status": run.status,
            "age": ago(time.time() - run.changed),
            "updates": run.progress,
            "objective": _objective(run),
            "seconds": "" if run.seconds is None else f"{run.seconds:.1f}",
            "told": label([f"{key}={value}" for key, value in run.overrides.items()]),
        }
        for run in runs
    ]


def name_of(run: Run, root: Path) -> str:
    """Return what a run is called below `root`."""
    return str(run.folder.relative_to(root)) if run.folder != root else str(run.folder)


def as_json(runs: Sequence[Run]) -> str:
    """Return all that a list knows of each run."""
    content = [
        {
            "run": str(run.folder),
            "status": run.status,
            "changed": run.changed,
            "updates": run.progress,
            "overrides": run.overrides,
            "result": {name: value for name, value in run.result.items() if name != "versions"},
        }
        for run in runs
    ]
    return json.dumps(content, indent=2, default=str)


def to_table(rows: Sequence[dict[str, str]]) -> Table:
    """Return rows of equal columns for a terminal."""
    shown = Table(*(rows[0] if rows else ["run"]))
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row.values()))
    return shown


def ago(seconds: float) -> str:
    """Return a time span in the largest unit that it has two of, or one.

    >>> ago(5), ago(100), ago(3 * 3600), ago(50 * 3600)
    ('5s', '1m', '3h', '2d')
    """
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"


def _objective(run: Run) -> str:
    return "" if run.objective is None else f"{run.result['objective']} {short_number(f'{run.objective:.4g}')}"


def _value(run: Run, key: str) -> Any:
    if key == "status":
        return run.status
    if key == "objective":
        return run.objective
    return run.result[key] if key in run.result else run.overrides.get(key)


def _meets(value: Any, sign: str, wanted: str) -> bool:
    if value is None:
        return sign == "!="
    try:
        return _TESTS[sign](float(value), float(wanted))
    except (TypeError, ValueError):
        return sign in ("=", "!=") and _TESTS[sign](str(value).lower(), wanted.lower())
