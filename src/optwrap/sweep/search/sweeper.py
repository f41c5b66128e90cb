"""What Hydra runs for `hydra/sweeper=search`: ask for trials, launch their jobs, tell what came out.

Nothing is kept but the jobs' own records: given again, the same trials are asked for, and finished jobs answer at
once. So the trials do not depend on when a search was stopped.
"""

import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra.utils
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from optwrap.errors import ConfigError, did_you_mean
from optwrap.instantiate import build, plain
from optwrap.sweep.grid import Launching, compose_each_kind, without_counts
from optwrap.sweep.records import read_record, read_result
from optwrap.sweep.search.library import load_optuna
from optwrap.sweep.search.space import Space, search_space
from optwrap.sweep.search.trials import Search, Trial, check_settings, losses_of, write_search

log = logging.getLogger(__name__)


class SearchSweep(Launching):
    """Searches with Optuna's ask and tell.

    Args:
        sampler: the config of one of Optuna's samplers, with a seed.
        n_trials: how many to make, those of earlier calls included.
        n_jobs: trials asked for at a time, whose jobs a launcher may run side by side.
        objectives: name in the jobs' results -> min or max; None: the run's objective.
        repeats: keys whose lists of values repeat each trial; its values are means over them.
        params: key -> values or range, as on the command line, which wins.
    """

    def __init__(
        self,
        sampler: Any,
        n_trials: int = 20,
        n_jobs: int = 1,
        objectives: Mapping[str, str] | None = None,
        repeats: Sequence[str] = ("seed",),
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self._sampler = plain(sampler, "hydra.sweeper.sampler")
        self._objectives = dict(objectives or {})
        self._n_trials, self._n_jobs = _at_least_one("n_trials", n_trials), _at_least_one("n_jobs", n_jobs)
        self._repeats, self._params = list(repeats or ()), dict(params or {})
        for name, better in self._objectives.items():
            if better not in ("min", "max"):
                raise ConfigError(f"hydra.sweeper.objectives.{name}={better}: it is min or max.")

    def sweep(self, arguments: list[str]) -> None:
        """Make the trials.

        Raises:
            ConfigError: what is to be searched, or by what, cannot be.
        """
        optuna = load_optuna()
        typed = [*(f"{key}={value}" for key, value in self._params.items()), *arguments]
        parser = OverridesParser.create(config_loader=self._context.config_loader)
        space = search_space(parser.parse_overrides(typed), self._repeats)
        folder = Path(self._config.hydra.sweep.dir).absolute()
        search = Search(self._settings(space), [])
        check_settings(folder, search.settings)
        OmegaConf.save(self._config, folder / "multirun.yaml")
        study = optuna.create_study(
            study_name="search",
            directions=["minimize"] * max(1, len(self._objectives)),
            sampler=self._build_sampler(),
        )
        with without_counts():
            while len(search.trials) < self._n_trials:
                if (batch := self._make_batch(study, space, search, folder)) is None:
                    return  # the sweep will be gone on with, in this call
                search.trials.extend(batch)
        write_search(folder, search)

    def _settings(self, space: Space) -> dict[str, Any]:
        """Return what the trials depend on, as plain values."""
        distributions = load_optuna().distributions
        return {
            "keys": {key: distributions.distribution_to_json(kind) for key, kind in space.distributions.items()},
            "shared": sorted(space.shared),
            "repeats": [list(repeat) for repeat in space.repeats],
            "sampler": self._sampler,
            "n_jobs": self._n_jobs,
            "objectives": self._objectives,
        }

    def _build_sampler(self) -> Any:
        target = hydra.utils.get_class(str(self._sampler.get("_target_")))
        if "seed" in inspect.signature(target).parameters and self._sampler.get("seed") is None:
            raise ConfigError(
                "hydra.sweeper.sampler.seed is not set: without it a search that was stopped would go on with "
                "other trials. Give a number."
            )
        return build(self._sampler, "hydra.sweeper.sampler")

    def _make_batch(self, study: Any, space: Space, search: Search, folder: Path) -> list[Trial] | None:
        """Ask for trials and run their jobs; None where one of these has not ended."""
        asked = [
            study.ask(dict(space.distributions))
            for _ in range(min(self._n_jobs, self._n_trials - len(search.trials)))
        ]
        trials = [Trial(each.number, each.params, space.overrides(each.params)) for each in asked]
        write_search(folder, replace(search, trials=[*search.trials, *trials]))  # the jobs look at it
        jobs = [overrides for trial in trials for overrides in trial.overrides]
        if not search.trials:
            compose_each_kind(self._context, self._config, jobs)
        first = len(search.trials) * len(space.repeats)
        returned = self._launcher.launch(jobs, initial_job_idx=first)
        folders = [_folder_of(each) for each in returned]
        ended = []
        for number, (trial, told) in enumerate(zip(trials, asked, strict=True)):
            its = folders[number * len(space.repeats) : (number + 1) * len(space.repeats)]
            if (result := self._result(trial, its, folder)) is None:
                return None
            tell(study, told, result)
            ended.append(result)
        return ended

    def _result(self, trial: Trial, jobs: Sequence[Path], folder: Path) -> Trial | None:
        """Return the trial as its jobs have ended; None where one has not."""
        records = [read_record(job) for job in jobs]
        if any(record is None or record.status in ("running", "interrupted") for record in records):
            return None
        trial = replace(trial, jobs=[str(job.relative_to(folder)) for job in jobs])
        if any(record is not None and record.status != "finished" for record in records):
            return replace(trial, state="failed")
        results = [read_result(job) for job in jobs]
        if self._objectives:
            self._check_objectives(results[0])
            values = {name: _mean([result.get(name) for result in results]) for name in self._objectives}
        else:
            ended = [record for record in records if record is not None]
            values = {ended[0].objective: _mean([record.metric for record in ended])}
        if not all(math.isfinite(value) for value in values.values()):
            return replace(trial, state="failed")
        followed = [_followed(result) for result in results]
        return replace(
            trial,
            state="pruned" if any(each.get("pruned") for each in followed) else "complete",
            values=list(values.values()),
            losses=[self._sign(name, results[0]) * value for name, value in values.items()],
            followed=followed if any(followed) else [],
        )

    def _check_objectives(self, result: Mapping[str, Any]) -> None:
        there = [name for name, value in result.items() if isinstance(value, int | float)]
        for name in self._objectives:
            if name not in there:
                raise ConfigError(
                    f"hydra.sweeper.objectives: {name!r} is no number of the jobs' results."
                    f"{did_you_mean(name, there)} They have {', '.join(there)}."
                )

    def _sign(self, name: str, result: Mapping[str, Any]) -> int:
        told = {"max": True, "min": False}.get(self._objectives.get(name, ""), result.get("higher_is_better"))
        if not isinstance(told, bool):
            raise ConfigError(
                f"hydra.sweeper.objectives: {name} does not say which way is better. Give it: "
                f"'hydra.sweeper.objectives={{{name}: max}}'."
            )
        return -1 if told else 1


def tell(study: Any, told: Any, trial: Trial) -> None:
    """Tell a study of Optuna's how a trial that it was asked for has ended."""
    states = load_optuna().trial.TrialState
    if trial.state == "failed":
        study.tell(told, state=states.FAIL)
    elif trial.state == "pruned":
        for number, loss in enumerate(mean_losses(trial), start=1):
            told.report(loss, number)
        study.tell(told, state=states.PRUNED)
    else:
        study.tell(told, trial.losses)


def mean_losses(trial: Trial) -> list[float]:
    """Return the losses of a trial's evaluations, as far as each repeat has them: means over the repeats.

    >>> mean_losses(Trial(0, {}, [], followed=[{"losses": [1.0, 0.5]}, {"losses": [2.0]}]))
    [1.5]
    """
    return [_mean(losses) for losses in zip(*map(losses_of, trial.followed), strict=False)]


def _followed(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the hook `Pruning`, under whatever name, has left of its job."""
    return next((value for name, value in result.items() if name.endswith("/trial")), {})


def _mean(values: Sequence[Any]) -> float:
    return sum(math.nan if value is None else float(value) for value in values) / len(values)


def _folder_of(returned: Any) -> Path:
    _ = returned.return_value  # raises what has ended the job
    return Path(returned.hydra_cfg.hydra.runtime.output_dir)


def _at_least_one(name: str, count: Any) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ConfigError(f"hydra.sweeper.{name}={count}: it is a whole number of 1 or more.")
    return count
