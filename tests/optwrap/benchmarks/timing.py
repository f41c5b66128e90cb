"""Interleaved timing of several ways to do the same."""

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Case = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Return the spread of at least two values.

        >>> Spread.of([1.0, 2.0, 3.0, 4.0, 5.0])
        Spread(median=3.0, low=2.0, high=4.0)
        """
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Times:
    """Seconds of each case in each round."""

    rounds: dict[str, list[float]]

    def seconds(self, name: str) -> Spread:
        """Return the time of a case."""
        return Spread.of(self.rounds[name])

    def ratio(self, name: str, baseline: str) -> Spread:
        """Return how long a case takes beside the baseline in the same round."""
        pairs = zip(self.rounds[name], self.rounds[baseline], strict=True)
        return Spread.of([case / base for case, base in pairs])


@dataclass(frozen=True)
class Timer:
    """Runs cases in turn, in another order each round, for about `seconds` in all; `clock` returns seconds."""

    device: torch.device
    seconds: float
    clock: Callable[[], float] = time.perf_counter

    def run(self, cases: Mapping[str, Case], prepare: Case = lambda: None, repeat: int = 1) -> Times:
        """Time `repeat` calls of each case a round, `prepare` before them untimed; the first rounds warm up."""
        rounds: dict[str, list[float]] = {name: [] for name in cases}
        shuffled = random.Random(0)  # what a case leaves in the caches helps or hinders whichever follows
        start = self.clock()
        self._round(cases, prepare, repeat)
        if self.clock() - start < self.seconds / 5:
            start = self.clock()
            self._round(cases, prepare, repeat)
        count = max(3, min(2_000, round(self.seconds / (self.clock() - start))))
        for _ in range(count):
            order = dict(shuffled.sample(list(cases.items()), len(cases)))
            for name, seconds in self._round(order, prepare, repeat).items():
                rounds[name].append(seconds)
        return Times(rounds)

    def _round(self, cases: Mapping[str, Case], prepare: Case, repeat: int) -> dict[str, float]:
        seconds = {}
        for name, case in cases.items():
            prepare()
            self._wait()
            start = self.clock()
            for _ in range(repeat):
                case()
            self._wait()
            seconds[name] = (self.clock() - start) / repeat
        return seconds

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
