"""Jobs compared: those that differ in seed and fold alone make a setting, and settings have means."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optwrap.errors import ConfigError, did_you_mean
from optwrap.sweep.report.results import Job

FOLD = "data.fold"
REPEATS = ("seed", FOLD)  # jobs that differ in nothing else are repeats of one setting


@dataclass(frozen=True)
class Setting:
    """Jobs that differ in nothing but seed and fold; `values` is what tells them from others, by key."""

    values: Mapping[str, str]
    jobs: Sequence[Job]

    def metric(self, name: str) -> list[float]:
        """Return the metric of each finished job that has one of that name."""
        return [float(job.numbers[name]) for job in self.jobs if job.status == "finished" and name in job.numbers]


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """Return the keys that do not have one value in all jobs, seed and fold excepted, as they came first."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    # Where a key was typed for some jobs only, the others have its value from a file.
    return [key for key in keys if key not in REPEATS and len({canonical(job.value(key)) for job in jobs}) > 1]


def settings(jobs: Sequence[Job]) -> list[Setting]:
    """Group jobs by all that was swept but seed and fold.

    >>> cases = [("1", "0"), ("1", "1"), ("2", "0"), ("2", "1")]
    >>> from pathlib import Path
    >>> jobs = [Job(Path("a"), {"lr": lr, "seed": seed}, None, {}) for lr, seed in cases]
    >>> [(dict(each.values), len(each.jobs)) for each in settings(jobs)]
    [({'lr': '1'}, 2), ({'lr': '2'}, 2)]
    """
    keys = swept_keys(jobs)
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(canonical(job.value(key)) for key in keys), []).append(job)
    return [Setting({key: group[0].value(key) for key in keys}, group) for group in groups.values()]


def objective(jobs: Iterable[Job]) -> tuple[str, bool | None]:
    """Return the objective that the jobs name, and whether higher is better; None where nobody knows.

    Raises:
        ConfigError: no job has finished.
    """
    for job in jobs:
        if job.status == "finished" and isinstance(job.result.get("objective"), str):
            return job.result["objective"], job.result.get("higher_is_better")
    raise ConfigError("no job has finished, so there is nothing to compare.")


def default_metrics(jobs: Iterable[Job]) -> list[str]:
    """Return what a table shows unless asked otherwise: the objective, the test metrics and the time.

    Raises:
        ConfigError: no job has finished.
    """
    jobs = list(jobs)
    names = dict.fromkeys(name for job in jobs for name in job.numbers)
    tests = [name for name in names if name.startswith("test/")]
    return list(dict.fromkeys([objective(jobs)[0], *tests, *(["seconds"] if "seconds" in names else [])]))


def check_metrics(jobs: Iterable[Job], metrics: Iterable[str]) -> None:
    """Look for the metrics in the jobs' results.

    Raises:
        ConfigError: no job has one of that name.
    """
    names = list(dict.fromkeys(name for job in jobs for name in job.numbers))
    for metric in metrics:
        if metric not in names:
            raise ConfigError(
                f"metrics={metric}: the results have no such number.{did_you_mean(metric, names)} "
                f"They have {', '.join(names) or 'none'}."
            )


def ranked(compared: Iterable[Setting], metric: str, higher_is_better: bool | None) -> list[Setting]:
    """Return the settings that have a mean, the best first; none where nobody knows which way is up.

    A setting with a NaN or an infinity has no mean, and one that was pruned none that compares.
    """
    scores = [(each.metric(metric), each) for each in compared if not any(job.pruned for job in each.jobs)]
    means = [(statistics.mean(values), each) for values, each in scores if values and finite(values) == values]
    if higher_is_better is None:
        return []
    return [each for _, each in sorted(means, key=lambda pair: pair[0], reverse=higher_is_better)]


def finite(values: Iterable[float]) -> list[float]:
    """Return the values that are neither NaN nor infinite."""
    return [value for value in values if math.isfinite(value)]


def mean_and_spread(values: Sequence[float]) -> str:
    """Return a mean, with ± the standard deviation where there are several, of as many decimals.

    >>> mean_and_spread([0.975, 0.986]), mean_and_spread([0.5]), mean_and_spread([])
    ('0.9805 ± 0.0078', '0.5', '')
    >>> mean_and_spread([1234.0, 5678.0])
    '3456 ± 3142'
    >>> mean_and_spread([1.0, math.nan])
    'nan (1 of 2)'
    """
    if not values:
        return ""
    if odd := [value for value in values if not math.isfinite(value)]:
        return f"{odd[0]}" if len(values) == 1 else f"{odd[0]} ({len(odd)} of {len(values)})"
    mean = statistics.mean(values)
    if len(values) == 1 or not (spread := statistics.stdev(values)):
        return f"{mean:.4g}" + (" ± 0" if len(values) > 1 else "")
    digits = 1 - math.floor(math.log10(spread))  # the spread's second
    return (
        f"{mean:.{max(0, digits)}f} ± {spread:.{max(0, digits)}f}" if digits < 9 else f"{mean:.4g} ± {spread:.2g}"
    )


def canonical(value: str) -> str:
    """Return one spelling of a number: 0.10 and 1e-1 are the same value."""
    try:
        return repr(float(value))
    except ValueError:
        return value.replace(" ", "")
