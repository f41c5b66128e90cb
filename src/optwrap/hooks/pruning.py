"""Pruning: end a trial of a search early that falls behind its siblings."""

from collections.abc import Mapping
from typing import Any

from optwrap.errors import ConfigError
from optwrap.hooks.given import Run
from optwrap.sweep.records import read_record
from optwrap.sweep.search.library import load_optuna
from optwrap.sweep.search.trials import Search, Trial, find_trial, losses_of


class Pruning:
    """Stops a trial of `hydra/sweeper=search` where one of Optuna's pruners says so, after an evaluation on val.

    It compares with the trials that had ended before this one's jobs were launched, repeat by repeat, so that its
    decisions do not depend on what runs side by side. The pruner's steps are evaluations, counted from 1.

    Args:
        pruner: an optuna.pruners.BasePruner.
        metric: one of the evaluation on val; None: that of `objective`.

    Source: Golovin et al., Google Vizier, 2017, for the median; Li et al., Hyperband, 2018.
    """

    def __init__(self, pruner: Any, metric: str | None = None) -> None:
        self._pruner, self._metric = pruner, metric
        self.losses: list[float] = []

    def start(self, run: Run) -> None:
        """Find the trial that this run is of, and its siblings."""
        self._name, self._sign = run.followed(self._metric)
        record = read_record(run.folder)
        found = find_trial(run.folder, record.overrides) if record else None
        if found is None:
            raise ConfigError(
                f"hooks.{run.key} compares with the other trials of a search, and this run is none of one. Leave "
                f"it out (hooks.{run.key}=null), or search: python train.py -m hydra/sweeper=search ..."
            )
        search, trial, repeat = found
        if len(search.objectives) > 1:
            raise ConfigError(
                f"hooks.{run.key}: by which of {', '.join(search.objectives)} shall a trial be pruned? With "
                "several objectives there is no pruning: leave it out."
            )
        self._study = siblings(search, trial, repeat, self._pruner)
        self._trial = self._study.ask()
        for number, loss in enumerate(self.losses, start=1):
            self._falls_behind(loss, number)

    def after_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Ask the pruner; stop where it says so."""
        # A loss: lower is better.
        self.losses.append(-self._sign * metrics[self._name])
        pruned = self._falls_behind(self.losses[-1], len(self.losses))
        notes = self._study.get_trials(deepcopy=False)[-1].system_attrs
        run.result("trial", {"losses": list(self.losses), "pruned": pruned, "notes": dict(notes)})
        if pruned:
            run.stop(f"val/{self._name} falls behind other trials at evaluation {len(self.losses)}")

    def _falls_behind(self, loss: float, number: int) -> bool:
        self._trial.report(loss, number)
        return bool(self._trial.should_prune())

    def state_dict(self) -> dict[str, Any]:
        """Return the losses of the evaluations so far."""
        return {"losses": list(self.losses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after these."""
        self.losses = list(state["losses"])


def siblings(search: Search, trial: Trial, repeat: int, pruner: Any) -> Any:
    """Return a study of Optuna's with the trials before `trial`, as their jobs of the same repeat have gone."""
    optuna = load_optuna("hooks.pruning")
    study = optuna.create_study(study_name="search", direction="minimize", pruner=pruner)
    for other in search.trials[: trial.number]:
        seen = other.followed[repeat] if other.followed else {}
        losses = dict(enumerate(losses_of(seen), start=1))
        ended = bool(losses) and other.state in ("complete", "pruned")
        pruned = bool(seen.get("pruned"))
        states = optuna.trial.TrialState
        study.add_trial(
            optuna.trial.create_trial(
                state=states.PRUNED if ended and pruned else states.COMPLETE if ended else states.FAIL,
                value=losses[len(losses)] if ended else None,
                intermediate_values=losses,
                system_attrs=dict(seen.get("notes", {})),
            )
        )
    return study
