"""Searches as their users meet them: called, killed, called again."""

import json
import os
import signal
import sys
import time

import pytest

from tests.optwrap.cases import one_in

optuna = pytest.importorskip("optuna")

# Two trials at random, then Optuna learns.
SEARCH = (
    *("hydra/sweeper=search", "epochs=range(1,200)", "+x=tag(log,interval(1e-3,1))"),
    "+hydra.sweeper.sampler.n_startup_trials=2",
)


def content(program, folder="out"):
    return json.loads((program.folder / folder / "search.json").read_text())


def trials(program, folder="out"):
    return [(each["params"], each["state"], each["values"]) for each in content(program, folder)["trials"]]


def by_hand(count, at_a_time=1, seed=0, value=lambda params: float(params["epochs"])):
    """Optuna's own loop over the same space; returns the params and the value of each trial."""
    space = {
        "+x": optuna.distributions.FloatDistribution(1e-3, 1, log=True),
        "epochs": optuna.distributions.IntDistribution(1, 199),
    }
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=2)
    )
    while len(study.trials) < count:
        for trial in [study.ask(space) for _ in range(min(at_a_time, count - len(study.trials)))]:
            study.tell(trial, value(trial.params))
    return [(each.params, "complete", [each.value]) for each in study.trials]


def test_a_search_makes_the_trials_that_optuna_makes_by_hand(program):
    ended = program.sweep(*SEARCH, "hydra.sweeper.n_trials=5")
    assert ended.code == 0
    assert trials(program) == by_hand(5)
    assert "5 of 5 jobs finished" in ended.out


@pytest.mark.slow
def test_the_same_command_with_more_trials_runs_the_new_ones_alone(program):
    program.sweep(*SEARCH, "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2")
    first = trials(program)
    program.sweep(*SEARCH, "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2")
    assert trials(program)[:4] == first
    assert trials(program) == by_hand(6, at_a_time=2)
    assert len(program.ran) == 6


@pytest.mark.slow
def test_lists_of_seeds_repeat_each_trial_and_its_value_is_their_mean(program):
    assert program.sweep(*SEARCH, "seed=0,4", "hydra.sweeper.n_trials=4").code == 0
    # A job's metric is epochs + seed / 10.
    assert trials(program) == by_hand(4, value=lambda params: (params["epochs"] + params["epochs"] + 0.4) / 2)
    assert len(program.ran) == 8
    assert len((program.out / "report/table.md").read_text().partition("\n\n")[0].splitlines()) == 2 + 4


@pytest.mark.slow
def test_a_search_of_40_trials_killed_three_times_gives_those_of_an_uninterrupted_one(program):
    whole = (*SEARCH, "hydra.sweeper.n_trials=40", "hydra.sweeper.n_jobs=2")
    for kills in range(1, 4):
        process = program.start(*whole, JOB_SECONDS="0.05")
        deadline = time.monotonic() + 60
        while len(set(program.ran)) < 9 * kills:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert program.sweep(*whole).code == 0
    assert trials(program) == by_hand(40, at_a_time=2)
    assert len(program.ran) <= 40 + 3


@pytest.mark.slow
def test_a_trial_with_a_job_that_fails_has_failed_and_the_search_goes_on(program):
    program.fault(4, "raise")
    ended = program.sweep(*SEARCH, "seed=0,4", "hydra.sweeper.n_trials=2")
    assert ended.code == 1
    assert [state for _, state, _ in trials(program)] == ["failed", "failed"]
    assert "2 of 4 jobs did not finish" in ended.err
    program.mend(4)
    assert program.sweep(*SEARCH, "seed=0,4", "hydra.sweeper.n_trials=2").code == 0
    assert [state for _, state, _ in trials(program)] == ["complete", "complete"]
    assert len(program.ran) == 6


@pytest.mark.slow
def test_a_metric_that_is_nan_is_a_failed_trial(program):
    program.fault(0, "nan")
    program.sweep(*SEARCH, "hydra.sweeper.n_trials=2")
    assert [state for _, state, _ in trials(program)] == ["failed", "failed"]


@pytest.mark.slow
def test_several_objectives_are_read_from_the_results_and_each_has_its_direction(program):
    objectives = "hydra.sweeper.objectives={val/accuracy: max, test/loss: min}"
    assert program.sweep(*SEARCH, objectives, "hydra.sweeper.n_trials=3").code == 0
    for params, state, values in trials(program):
        assert (state, values) == ("complete", [params["epochs"], 1 / params["epochs"]])
    assert [trial["losses"][0] for trial in content(program)["trials"]] == [
        -params["epochs"] for params, _, _ in trials(program)
    ]
    table = (program.out / "report/table.md").read_text()
    assert "| front |" in table.splitlines()[0]
    assert table.count("| yes |") == 1  # both agree: the most epochs are best


def test_without_optuna_the_message_says_what_to_install(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    ended = program.sweep(*SEARCH)
    assert ended.code == 1
    assert ended.err == "hydra/sweeper=search needs the package optuna: pip install -e '.[optuna]'.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    one_in(3, [
        (["hydra.sweeper.objectives={val/acuracy: max}"], "Did you mean 'val/accuracy'?"),
        (
            ["hydra.sweeper.objectives={val/accuracy: up}"],
            "hydra.sweeper.objectives.val/accuracy=up: it is min or max.",
        ),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: it is a whole number of 1 or more."),
        (["hydra.sweeper.sampler.seed=null"], "hydra.sweeper.sampler.seed is not set"),
        (["hydra.sweeper.sampler._target_=optuna.samplers.TPESmpler"], "TPESmpler"),
        (["+hydra.sweeper.sampler.sed=3"], "hydra.sweeper.sampler"),
        (["+hydra.sweeper.trials=3"], "trials"),
    ]),
)  # fmt: skip
def test_a_wrong_setting_is_one_message(arguments, message, program):
    ended = program.sweep(*SEARCH, "hydra.sweeper.n_trials=1", *arguments)
    assert ended.code == 1
    assert message in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.slow
def test_a_search_with_other_settings_does_not_go_on_in_the_same_folder(program):
    program.sweep(*SEARCH, "hydra.sweeper.n_trials=2")
    before = content(program)
    ended = program.sweep(*SEARCH, "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.seed=1")
    assert ended.code == 1
    assert "'seed': 0" in ended.err
    assert "another hydra.sweep.dir" in ended.err
    assert content(program) == before


@pytest.mark.slow
def test_a_search_side_by_side_makes_the_same_trials(program):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    ended = program.sweep_apart(
        *SEARCH, "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2", "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert trials(program) == by_hand(6, at_a_time=2)
