"""Two settings compared pair by pair: how far apart, how sure, and how many pairs would show it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from optwrap.sweep.report.results import Job
from optwrap.sweep.report.settings import FOLD, REPEATS, Setting, canonical

MOST_PAIRS = 1000


@dataclass(frozen=True)
class Difference:
    """A paired difference: its mean, its 95 % interval (None of one pair), its standard deviation and its pairs.

    `overlap` is what folds add to the variance of the mean, since they train on shared samples: validation samples
    a training sample. Source: Nadeau and Bengio, Inference for the Generalization Error, 2003.
    """

    mean: float
    interval: tuple[float, float] | None
    spread: float
    pairs: int
    overlap: float = 0.0

    @property
    def shows(self) -> bool:
        """Whether zero lies outside of the interval."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    @property
    def needed(self) -> int | None:
        """The pairs with which four of five such comparisons would show the difference; None beyond a thousand."""
        if not self.mean or self.interval is None:
            return None
        for pairs in range(2, MOST_PAIRS + 1):
            reach = stdtrit(pairs - 1, 0.975) + stdtrit(pairs - 1, 0.8)
            if reach * self.spread * math.sqrt(1 / pairs + self.overlap) <= abs(self.mean):
                return pairs
        return None

    def __str__(self) -> str:
        if self.interval is None:
            return _signed(self.mean, self.mean)
        finest = (self.interval[1] - self.interval[0]) / 2 or self.mean
        low, high = (_signed(end, finest) for end in self.interval)
        return f"{_signed(self.mean, finest)} [{low}, {high}]"


def difference(setting: Setting, other: Setting, metric: str) -> Difference | None:
    """Return by how much the metric of `setting` is above that of `other`, over the seeds and folds of both.

    None where they have none in common, or a value is not finite.
    """
    first, second = (_by_repeat(each.jobs, metric) for each in (setting, other))
    shared = [repeat for repeat in first if repeat in second]
    values = [first[repeat] - second[repeat] for repeat in shared]
    if not values or not all(math.isfinite(value) for value in values):
        return None
    mean = statistics.mean(values)
    if len(values) == 1:
        return Difference(mean, None, 0.0, 1)
    spread, overlap = statistics.stdev(values), _overlap(setting.jobs)
    reach = float(stdtrit(len(values) - 1, 0.975)) * spread * math.sqrt(1 / len(values) + overlap)
    return Difference(mean, (mean - reach, mean + reach), spread, len(values), overlap)


def _by_repeat(jobs: Sequence[Job], metric: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(canonical(job.value(key)) for key in REPEATS): job.numbers[metric]
        for job in jobs
        if job.status == "finished" and metric in job.numbers
    }


def _overlap(jobs: Sequence[Job]) -> float:
    folds = {canonical(job.value(FOLD)) for job in jobs}
    if len(folds) < 2:
        return 0.0
    told = jobs[0].value(f"{FOLD}s")
    count = int(told) if told.isdigit() and int(told) >= len(folds) else len(folds)
    return 1 / (count - 1)


def _signed(value: float, finest: float) -> str:
    """Return a number with its sign, to the second digit of `finest`."""
    digits = max(0, 1 - math.floor(math.log10(abs(finest)))) if finest else 1
    return f"{value:+.{min(digits, 12)}f}"
