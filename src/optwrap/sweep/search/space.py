"""What a search varies: overrides as typed become distributions of Optuna, repeats, and what all trials share."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from optwrap.errors import ConfigError
from optwrap.sweep.search.library import load_optuna


@dataclass(frozen=True)
class Space:
    """Keys with their distributions, in alphabetical order; overrides that all jobs share; each repeat's own."""

    distributions: Mapping[str, Any]
    shared: Sequence[str]
    repeats: Sequence[Sequence[str]]

    def overrides(self, params: Mapping[str, Any]) -> list[list[str]]:
        """Return the overrides of each job of a trial.

        >>> Space({}, ["epochs=3"], [["seed=0"], ["seed=1"]]).overrides({"lr": 0.1})
        [['epochs=3', 'lr=0.1', 'seed=0'], ['epochs=3', 'lr=0.1', 'seed=1']]
        """
        chosen = [f"{key}={params[key]}" for key in sorted(params)]
        return [[*self.shared, *chosen, *repeat] for repeat in self.repeats]


def search_space(overrides: Sequence[Override], repeated: Collection[str]) -> Space:
    """Return what the overrides let a search choose; lists of values of the keys `repeated` repeat each trial.

    Of a key that is given twice the last counts.

    Raises:
        ConfigError: nothing is to be chosen, or a range cannot be.
    """
    last = {each.get_key_element(): each for each in overrides}
    repeats = repeats_of(overrides, repeated)
    varied = {key: each for key, each in last.items() if each.is_sweep_override() and _bare(key) not in repeated}
    if not varied:
        raise ConfigError(
            "hydra/sweeper=search: nothing is to be chosen. Give a key values or a range: "
            "model=small_cnn,small_vit or 'optim_wrapper.optimizer.lr=tag(log,interval(1e-4,1))'."
        )
    shared = [each.input_line or "" for each in last.values() if not each.is_sweep_override()]
    return Space({key: _distribution(key, varied[key]) for key in sorted(varied)}, shared, repeats)


def repeats_of(overrides: Sequence[Override], repeated: Collection[str]) -> list[list[str]]:
    """Return the overrides of each repeat: every combination of the values of the keys `repeated`.

    Raises:
        ConfigError: one of them has a range without steps.
    """
    last = {each.get_key_element(): each for each in overrides}
    lists = []
    for key, each in last.items():
        if _bare(key) in repeated and each.is_sweep_override():
            if not each.is_discrete_sweep():
                raise ConfigError(
                    f"{each.input_line}: each trial is repeated for it, so it needs a list of values."
                )
            lists.append([f"{key}={value}" for value in each.sweep_string_iterator()])
    return [list(combination) for combination in itertools.product(*lists)]


def _bare(key: str) -> str:
    return key.lstrip("+~")


def _distribution(key: str, override: Override) -> Any:
    value: Any = override.value()
    tags = set(getattr(value, "tags", ()))
    if unknown := sorted(tags - {"log"}):
        raise ConfigError(f"{override.input_line}: the tag {unknown[0]!r} has no meaning here; log has.")
    try:
        if isinstance(value, IntervalSweep):
            return _interval(value.start, value.end, "log" in tags)
        if isinstance(value, RangeSweep):
            return _steps(list(value.range()), value.step, "log" in tags)
        if tags:
            raise ValueError("the tag log counts for an interval or a range alone")
        return _kinds().CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    except ValueError as error:
        raise ConfigError(f"{override.input_line}: {error}.") from error


def _interval(low: Any, high: Any, log: bool) -> Any:
    if low >= high or (log and low <= 0):
        raise ValueError(f"from {low} to {high} there is no {'logarithmic ' * log}interval")
    kind = "IntDistribution" if isinstance(low, int) and isinstance(high, int) else "FloatDistribution"
    return getattr(_kinds(), kind)(low, high, log=log)


def _steps(values: Sequence[Any], step: Any, log: bool) -> Any:
    if not values or (log and (step != 1 or min(values) <= 0)):
        raise ValueError("a logarithmic range needs steps of 1, above 0" if values else "the range is empty")
    if all(isinstance(value, int) for value in values):
        return _kinds().IntDistribution(min(values), max(values), log=log, step=abs(step))
    if log:
        raise ValueError("a logarithmic range is one of whole numbers; interval() takes others")
    return _kinds().FloatDistribution(min(values), max(values), step=abs(step))


def _kinds() -> Any:
    return load_optuna().distributions
