"""What a report says of a search beside its jobs: which keys matter, and the front of several objectives."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from optwrap.errors import ConfigError
from optwrap.sweep.names import short_names
from optwrap.sweep.report.canvas import canvas, finish, plain, spans_decades
from optwrap.sweep.search.library import load_optuna
from optwrap.sweep.search.trials import Search, Trial

FEWEST = 8  # trials that have ended, below which an importance says nothing
COLORS = ("#2e4057", "#d1495b", "#66a182", "#edae49")


def objectives_of(search: Search, objective: str) -> list[str]:
    """Return the names of a search's objectives; `objective` is the run's."""
    return search.objectives or [objective]


def front(search: Search) -> list[Trial]:
    """Return the trials that no other one betters in one objective and equals in the rest.

    >>> trials = [Trial(n, {}, [], "complete", losses=losses) for n, losses in enumerate([[1, 3], [2, 2], [2, 4]])]
    >>> [trial.number for trial in front(Search({}, trials))]
    [0, 1]
    """
    done = [trial for trial in search.trials if trial.state == "complete"]
    return [trial for trial in done if not any(_betters(other.losses, trial.losses) for other in done)]


def _betters(losses: Sequence[float], than: Sequence[float]) -> bool:
    pairs = list(zip(losses, than, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def importances(search: Search, objectives: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return how much of each objective's spread among good trials each key explains, by objective.

    Empty where Optuna is not installed, or too few trials have ended. Source: Watanabe et al., PED-ANOVA, 2023.
    """
    done = [trial for trial in search.trials if trial.state == "complete"]
    try:
        optuna = load_optuna()
    except ConfigError:  # it is not installed
        return {}
    if len(done) < FEWEST or len({tuple(trial.losses) for trial in done}) < 2:
        return {}
    kinds = {key: optuna.distributions.json_to_distribution(text) for key, text in search.settings["keys"].items()}
    found = {}
    for number, name in enumerate(objectives):
        study = optuna.create_study(direction="minimize")
        for trial in done:
            study.add_trial(
                optuna.trial.create_trial(value=trial.losses[number], params=trial.params, distributions=kinds)
            )
        shares = optuna.importance.get_param_importances(study)
        found[name] = {key: float(share) for key, share in shares.items()}
    return found


def draw_importances(shares: Mapping[str, Mapping[str, float]], png: Path) -> None:
    """Draw a bar a key and objective, what matters most on top."""
    first = next(iter(shares.values()))
    keys = sorted(first, key=first.__getitem__)
    names = short_names(keys)
    figure, axis = canvas(8, 1.2 + 0.35 * len(keys) * len(shares))
    height = 0.8 / len(shares)
    for number, (objective, its) in enumerate(shares.items()):
        places = [row + height * (len(shares) / 2 - number - 0.5) for row in range(len(keys))]
        bars = axis.barh(
            places, [its.get(key, 0.0) for key in keys], height, color=COLORS[number % 4], label=objective
        )
        axis.bar_label(bars, fmt=" {:.0%}", fontsize=8)
    axis.set_yticks(range(len(keys)), [plain(names[key], 40) for key in keys], fontsize=9)
    axis.set_xlim(0, 1.1)
    axis.set_xlabel("share of the spread among good trials that it explains")
    if len(shares) > 1:
        axis.legend(frameon=False, fontsize=8, loc="lower right")
    finish(figure, axis, f"What matters for {', '.join(shares)}", png)


def draw_front(search: Search, objectives: Sequence[str], png: Path) -> None:
    """Draw two objectives against each other, a dot a trial, and the front as a line."""
    done = [trial for trial in search.trials if trial.state == "complete"]
    on_it = sorted(front(search), key=lambda trial: trial.losses)
    figure, axis = canvas(7, 4.6)
    axis.plot(*_columns(done), "o", color="#9db8d9", markersize=5)
    axis.plot(*_columns(on_it), "o-", color="#d1495b", markersize=6, linewidth=1.2)
    for trial in on_it:
        axis.annotate(f" {trial.number}", trial.values[:2], fontsize=8, va="bottom")
    for number, side in enumerate("xy"):
        scale = "log" if spans_decades([trial.values[number] for trial in done]) else "linear"
        axis.set(**{f"{side}label": objectives[number], f"{side}scale": scale})
    finish(figure, axis, "The front (with the numbers of its trials): none is better in both", png)


def _columns(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
    return [trial.values[0] for trial in trials], [trial.values[1] for trial in trials]
