"""A sweep over every combination, whose first job begins at once however many there are."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from optwrap.errors import ConfigError

log = logging.getLogger(__name__)


class Launching(Sweeper):
    """What every sweeper here begins with."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra has composed, and its launcher."""
        self._context, self._config = hydra_context, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )


class Grid(Launching):
    """Runs every combination of values.

    Hydra's own sweeper composes all jobs before the first begins; here one of each kind of value is. And what a
    launcher returns of each job, its config among it, is not kept: jobs that run one after the other are launched
    so.

    Args:
        max_batch_size: jobs handed at a time to a launcher that runs several; None: all.
        params: key -> values, as on the command line, which wins.
    """

    def __init__(self, max_batch_size: int | None = None, params: Mapping[str, Any] | None = None) -> None:
        if max_batch_size is not None and max_batch_size < 1:
            raise ConfigError(f"hydra.sweeper.max_batch_size={max_batch_size}: it is 1 or more, or null for all.")
        self._max_batch_size, self._params = max_batch_size, dict(params or {})

    def sweep(self, arguments: list[str]) -> None:
        """Run every combination.

        Raises:
            ConfigError: a range has no steps.
            HydraException: a job cannot be composed.
        """
        parser = OverridesParser.create(config_loader=self._context.config_loader)
        typed = [*(f"{key}={value}" for key, value in self._params.items()), *arguments]
        jobs = combinations(parser.parse_overrides(typed))
        folder = Path(self._config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self._config, folder / "multirun.yaml")
        compose_each_kind(self._context, self._config, jobs)
        one_by_one = type(self._launcher).__name__ == "BasicLauncher"
        size = 1 if one_by_one else self._max_batch_size or len(jobs)
        log.info("Sweeping over %d jobs", len(jobs))
        with without_counts():
            ended = [
                returned
                for first in range(0, len(jobs), size)
                for returned in self._launcher.launch(jobs[first : first + size], initial_job_idx=first)
                if returned.status != JobStatus.COMPLETED
            ]
        for returned in ended:  # after all others have run
            _ = returned.return_value  # raises what has ended the job


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """Return the overrides of each job; of a key that is given twice the last counts.

    Raises:
        ConfigError: a range has no steps.
    """
    lists = {}
    for each in overrides:
        key = each.get_key_element()
        if not each.is_sweep_override():
            lists[key] = [f"{key}={each.get_value_element_as_str()}"]
        elif each.is_discrete_sweep():
            lists[key] = [f"{key}={value}" for value in each.sweep_string_iterator()]
        else:
            raise ConfigError(
                f"{each.input_line}: a grid needs values, such as {key}=0.1,0.2. For an interval: "
                "hydra/sweeper=search"
            )
    return [list(combination) for combination in itertools.product(*lists.values())]


@contextmanager
def without_counts() -> Iterator[None]:
    """Leave out what Hydra's launcher says of how many jobs it launches: here it is called for few at a time."""

    def other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Launching ")

    said_by = logging.getLogger("hydra._internal.core_plugins.basic_launcher")
    said_by.addFilter(other)
    try:
        yield
    finally:
        said_by.removeFilter(other)


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
