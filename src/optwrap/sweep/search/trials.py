"""The trials of a search as data: what each chose, its jobs, what came out; and the file that holds them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from optwrap.argument_types import fits
from optwrap.errors import ConfigError
from optwrap.files import read_mapping, write_json

FILE = "search.json"


@dataclass(frozen=True)
class Trial:
    """One choice of values, run once a repeat; the lists are in the order of the repeats.

    `state` is running, complete, pruned or failed. `losses` are the objectives, lower is better, `values` as they
    are named. `followed` is what a pruner had seen of each job: losses by the number of the evaluation, and its
    own notes.
    """

    number: int
    params: dict[str, Any]
    overrides: list[list[str]]
    state: str = "running"
    jobs: list[str] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    followed: list[dict[str, Any]] = field(default_factory=list)


def losses_of(followed: Mapping[str, Any]) -> list[float]:
    """Return the losses of a job's evaluations, as a pruner had seen them; NaN, for which files have no number.

    >>> losses_of({"losses": [1.0, "nan", "inf"]})
    [1.0, nan, nan]
    """
    losses = [float(loss) for loss in followed.get("losses", ())]
    return [loss if math.isfinite(loss) else math.nan for loss in losses]


@dataclass(frozen=True)
class Search:
    """A search: its settings, on which its trials depend, and its trials so far."""

    settings: dict[str, Any]
    trials: list[Trial]

    @property
    def objectives(self) -> list[str]:
        """The names of the objectives, where the settings have them; else it is the run's."""
        return list(self.settings.get("objectives") or ())


def read_search(folder: Path) -> Search | None:
    """Return the search in a sweep's folder; None where there is none, or its file is damaged."""
    content = read_mapping(folder / FILE)
    settings, trials = content.get("settings"), content.get("trials")
    if not isinstance(settings, dict) or not isinstance(trials, list):
        return None
    names = {each.name for each in fields(Trial)}
    if not all(isinstance(each, dict) and set(each) == names and fits(each["number"], int) for each in trials):
        return None
    return Search(settings, [Trial(**each) for each in trials])


def write_search(folder: Path, search: Search) -> None:
    """Write the search whole or not at all."""
    write_json(folder / FILE, {"settings": search.settings, "trials": [asdict(each) for each in search.trials]})


def find_trial(folder: Path, overrides: Sequence[str]) -> tuple[Search, Trial, int] | None:
    """Return the search above a job's folder, and the trial and repeat that have the job's overrides."""
    for above in folder.parents:
        if (search := read_search(above)) is None:
            continue
        for trial in reversed(search.trials):
            for repeat, told in enumerate(trial.overrides):
                if sorted(told) == sorted(overrides):
                    return search, trial, repeat
        return None
    return None


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Check that a search that goes on in `folder` has the settings it began with: its trials follow from them.

    Raises:
        ConfigError: one of them is another.
    """
    before = read_search(folder)
    if before is None:
        return
    for name, value in settings.items():
        if name in before.settings and before.settings[name] != value:
            raise ConfigError(
                f"{folder}: this search began with {name}={before.settings[name]}, and would go on with "
                f"{value}: other trials than those that are there. Give what it began with, or another "
                "hydra.sweep.dir."
            )
