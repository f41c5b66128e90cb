"""A sweep over every combination, whose first job begins at once however many there are."""

from collections.abc import Iterable, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class Grid(BasicSweeper):
    """Hydra's own sweeper, which composes all jobs before it begins; this one, one of each kind of value."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose jobs that between them have each value, of numbers one is enough.

        Raises:
            HydraException: one of them cannot be composed.
        """
        compose_each_kind(self.hydra_context, self.config, batch)


def compose_each_kind(context: Any, config: Any, batch: Iterable[Sequence[str]]) -> None:
    """Compose jobs of the batch that between them have each kind of value, so that a wrong one is found at once.

    Raises:
        HydraException: one of them cannot be composed.
    """
    for overrides in of_each_kind(batch):
        context.config_loader.load_sweep_config(config, list(overrides))


def of_each_kind(batch: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    """Return jobs that between them have each override, numbers of one key counting as one.

    >>> of_each_kind([["model=a", "seed=0"], ["model=a", "seed=1"], ["model=b", "seed=0"], ["model=b", "seed=1"]])
    [['model=a', 'seed=0'], ['model=b', 'seed=0']]
    """
    seen: set[tuple[str, str]] = set()
    chosen = []
    for overrides in batch:
        kinds = {_kind(override) for override in overrides}
        if not kinds <= seen:
            chosen.append(overrides)
            seen |= kinds
    return chosen


def _kind(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    for number in (int, float):
        try:
            number(value)
        except ValueError:
            continue
        return key, number.__name__
    return key, value
