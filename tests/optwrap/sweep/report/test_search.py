"""What a report shows of a search, on searches whose answer is known."""

import json

import matplotlib.image
import pytest

from optwrap.sweep.report.search import draw_front, draw_importances, front, importances
from optwrap.sweep.search.trials import Search, Trial

optuna = pytest.importorskip("optuna")


def search(losses, count=60, keys=("a", "b")):
    """Random trials over numbers from 0 to 1, whose losses are functions of them."""
    kind = optuna.distributions.FloatDistribution(0, 1)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = []
    for number in range(count):
        params = study.ask(dict.fromkeys(keys, kind)).params
        values = [loss(params) for loss in losses]
        trials.append(Trial(number, params, [], "complete", losses=values, values=values))
    return Search({"keys": {key: optuna.distributions.distribution_to_json(kind) for key in keys}}, trials)


def test_the_key_that_moves_an_objective_matters_for_it_and_the_other_does_not():
    found = importances(search([lambda at: (at["a"] - 0.3) ** 2, lambda at: at["b"]]), ["first", "second"])
    assert found["first"]["a"] > 0.8
    assert found["second"]["b"] > 0.8
    assert sum(found["first"].values()) == pytest.approx(1)


@pytest.mark.parametrize("losses", [[lambda at: 1.0], [lambda at: at["a"]]])
def test_of_few_trials_or_equal_ones_nothing_is_said(losses):
    assert importances(search(losses, count=60 if losses[0]({"a": 2}) == 1 else 5), ["loss"]) == {}


def test_the_front_is_what_no_other_trial_betters():
    made = search([lambda at: at["a"], lambda at: at["b"]], count=30)
    losses = [trial.losses for trial in made.trials]
    by_hand = [one for one in losses if not any(a <= one[0] and b <= one[1] and [a, b] != one for a, b in losses)]
    assert [trial.losses for trial in front(made)] == by_hand
    assert 1 < len(by_hand) < 30


def test_nothing_is_said_of_the_study_that_tells_it():
    made = search([lambda at: at["a"]])
    optuna.logging.set_verbosity(optuna.logging.INFO)
    importances(made, ["loss"])
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING


def test_both_are_drawn(tmp_path):
    made = search([lambda at: at["a"] + 0.01, lambda at: 100 ** at["b"]], keys=("a", "b", "x.$c$"))
    draw_importances(importances(made, ["first", "second"]), tmp_path / "importance.png")
    draw_front(made, ["first", "second"], tmp_path / "front.png")
    for name in ("importance.png", "front.png"):
        assert matplotlib.image.imread(tmp_path / name)[..., :3].std() > 0.02


def test_a_search_file_that_is_damaged_is_no_search(tmp_path):
    from optwrap.sweep.search.trials import read_search, write_search

    made = search([lambda at: at["a"]], count=2)
    write_search(tmp_path, made)
    assert read_search(tmp_path) == made
    content = json.loads((tmp_path / "search.json").read_text())
    for damaged in ("{", "[]", json.dumps(content | {"trials": [{"number": 0}]}), json.dumps({"trials": []})):
        (tmp_path / "search.json").write_text(damaged)
        assert read_search(tmp_path) is None
