"""A sweep over every combination, whose first job begins at once however many there are."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins import basic_launcher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

log = logging.getLogger(__name__)


class Grid(BasicSweeper):
    """Hydra's own sweeper, but for what it does with many jobs.

    That composes all of them before the first begins; here one of each kind of value is. And what a launcher
    returns of each job, its config among it, is not kept: jobs that run one after the other are launched so.
    """

    def sweep(self, arguments: list[str]) -> None:
        """Run every combination.

        Raises:
            HydraException: a job cannot be composed.
        """
        context, config, launcher = self.hydra_context, self.config, self.launcher
        assert context is not None
        assert config is not None
        assert launcher is not None
        parser = OverridesParser.create(config_loader=context.config_loader)
        (jobs,) = self.split_arguments(parser.parse_overrides([*self._parse_config(), *arguments]), None)
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")
        compose_each_kind(context, config, jobs)
        one_by_one = type(launcher).__name__ == "BasicLauncher"
        size = 1 if one_by_one else self.max_batch_size or len(jobs)
        log.info("Sweeping over %d jobs", len(jobs))
        with without_counts():
            for first in range(0, len(jobs), size):
                for returned in launcher.launch(jobs[first : first + size], initial_job_idx=first):
                    _ = returned.return_value  # raises what has ended the job


@contextmanager
def without_counts() -> Iterator[None]:
    """Leave out what Hydra's launcher says of how many jobs it launches: here it is called for few at a time."""

    def other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Launching ")

    said_by = logging.getLogger(basic_launcher.__name__)
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
