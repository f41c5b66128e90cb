"""Compare finished runs: a table of what differs between them, mean and spread over seeds."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from optwrap.errors import ConfigError, did_you_mean

REPEATS = "seed"  # runs that differ in nothing else are repeats of one setting


@dataclass(frozen=True)
class FinishedRun:
    """What one run was told and what came out."""

    overrides: Mapping[str, str]
    result: Mapping[str, Any]


def read_runs(folder: Path) -> list[FinishedRun]:
    """Return the finished runs in and below `folder`, in the order of their folders' names.

    Raises:
        ConfigError: there are none.
    """
    results = sorted(folder.rglob("result.json"), key=lambda path: [_natural(part) for part in path.parts])
    runs = [_read_run(path) for path in results if (path.parent / ".hydra" / "overrides.yaml").is_file()]
    if not runs:
        raise ConfigError(f"{folder}: there is no finished run in or below it (no result.json).")
    return runs


def compare(runs: Sequence[FinishedRun], metrics: Sequence[str]) -> list[dict[str, str]]:
    """Return a row a setting: what was overridden otherwise than in the other runs, its runs, each metric.

    A metric is its mean, with ± the standard deviation where a setting has several runs (seeds).

    Raises:
        ConfigError: a metric is not in the results.

    >>> cases = [("1", 0), ("1", 1), ("2", 0), ("2", 1)]
    >>> runs = [FinishedRun({"lr": lr, "seed": str(seed)}, {"loss": float(lr) + seed}) for lr, seed in cases]
    >>> [list(row.values()) for row in compare(runs, ["loss"])]
    [['1', '2', '1.5 ± 0.7071'], ['2', '2', '2.5 ± 0.7071']]
    """
    varied = _varied(runs)
    settings: dict[tuple[str, ...], list[FinishedRun]] = {}
    for run in runs:
        settings.setdefault(tuple(run.overrides.get(key, "") for key in varied), []).append(run)
    rows = []
    for values, repeats in settings.items():
        row = dict(zip(varied, values, strict=True)) | {"runs": str(len(repeats))}
        rows.append(
            row | {metric: _mean_and_spread([_value(run, metric) for run in repeats]) for metric in metrics}
        )
    return rows


def to_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows of equal columns as a Markdown table."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _read_run(path: Path) -> FinishedRun:
    overrides = OmegaConf.load(path.parent / ".hydra" / "overrides.yaml")
    pairs = (str(override).partition("=") for override in overrides)
    return FinishedRun({key.lstrip("+~"): value for key, _, value in pairs}, json.loads(path.read_text()))


def _varied(runs: Iterable[FinishedRun]) -> list[str]:
    """Return the keys that do not have one value in all runs, in the order of the command line."""
    values: dict[str, set[str | None]] = {}
    for key in dict.fromkeys(key for run in runs for key in run.overrides):
        values[key] = {run.overrides.get(key) for run in runs}
    return [key for key, seen in values.items() if len(seen) > 1 and key != REPEATS]


def _value(run: FinishedRun, metric: str) -> float:
    value = run.result.get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float):
        numbers = [name for name, each in run.result.items() if isinstance(each, int | float)]
        raise ConfigError(
            f"metrics={metric}: the results have no such number.{did_you_mean(metric, numbers)} "
            f"They have {', '.join(numbers)}."
        )
    return float(value)


def _mean_and_spread(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.4g}"
    return f"{mean} ± {statistics.stdev(values):.4g}" if len(values) > 1 else mean


def _natural(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isdigit() else (1, 0, part)
