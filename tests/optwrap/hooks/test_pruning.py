"""Pruning: Optuna's own pruners over the trials of a search, as they would decide in one process."""

import math
from functools import partial
from types import SimpleNamespace

import pytest

from optwrap.errors import ConfigError
from optwrap.hooks import Pruning, Run
from optwrap.sweep.records import Record, write_record
from optwrap.sweep.search.trials import Search, Trial, write_search

optuna = pytest.importorskip("optuna")


def run_of(folder, overrides, said, kept, **objective):
    """What the hook asks of a run, whose folder lies in that of a search."""
    folder.mkdir(exist_ok=True)
    write_record(folder, Record().begun(overrides, "val/accuracy", "call"))
    objective = {"metric": "accuracy", "directions": {"accuracy": True, "loss": False}} | objective
    run = SimpleNamespace(key="pruning", objective=SimpleNamespace(**objective), has_val=True, folder=folder)
    run.stop, run.result = said.append, kept.__setitem__
    run.followed = partial(Run.followed, run)
    return run


def search_by_hooks(folder, pruner, curves, repeats=1, at_a_time=1):
    """Let each curve of accuracies, a list a repeat, be a trial; return how many evaluations each job makes."""
    trials, lengths = [], []
    for number in range(len(curves)):
        first = number - number % at_a_time
        told = [[f"x={each}", f"seed={repeat}"] for each in (number,) for repeat in range(repeats)]
        running = [Trial(each, {"x": each}, told if each == number else []) for each in range(first, number + 1)]
        write_search(folder, Search({"objectives": {}}, trials[:first] + running))
        followed = []
        for repeat in range(repeats):
            said, kept = [], {}
            hook, run = Pruning(pruner()), run_of(folder / f"{number}-{repeat}", told[repeat], said, kept)
            hook.start(run)
            for accuracy in curves[number][repeat]:
                state = hook.state_dict()  # each evaluation after a checkpoint
                hook = Pruning(pruner())
                hook.load_state_dict(state)
                hook.start(run)
                hook.after_evaluation(run, {"accuracy": accuracy, "loss": 0.0})
                if said:
                    break
            followed.append(kept["trial"])
            lengths.append(len(kept["trial"]["losses"]))
        state = "pruned" if any(each["pruned"] for each in followed) else "complete"
        trials.append(Trial(number, {"x": number}, told, state, followed=followed))
    return lengths


def lengths_by_hand(pruner, curves):
    """The same with one study of Optuna's in one process, whose direction is to maximise."""
    study = optuna.create_study(study_name="search", direction="maximize", pruner=pruner())
    lengths = []
    for (curve,) in curves:
        trial = study.ask()
        for step, accuracy in enumerate(curve, start=1):
            trial.report(accuracy, step)
            if trial.should_prune():
                break
        lengths.append(step)
        pruned = trial.should_prune()
        study.tell(trial, state=optuna.trial.TrialState.PRUNED if pruned else None, values=None if pruned else 1.0)
    return lengths


CURVES = [
    [[quality * (1 - 0.7**step) for step in range(1, 10)]] for quality in (3, 5, 4, 6, 2, 7, 1, 5, 8, 3, 9, 4)
]
PRUNERS = {
    "median": partial(optuna.pruners.MedianPruner, n_startup_trials=3, n_warmup_steps=2),
    "halving": partial(optuna.pruners.SuccessiveHalvingPruner, min_resource=1, reduction_factor=2),
    "hyperband": partial(optuna.pruners.HyperbandPruner, min_resource=1, max_resource=9, reduction_factor=3),
}


@pytest.mark.parametrize("pruner", PRUNERS)
def test_jobs_that_know_each_other_by_a_file_are_pruned_as_in_one_process(pruner, tmp_path):
    expected = lengths_by_hand(PRUNERS[pruner], CURVES)
    assert search_by_hooks(tmp_path, PRUNERS[pruner], CURVES) == expected
    assert len(set(expected)) > 1  # some are, some are not


def test_trials_side_by_side_do_not_look_at_each_other(tmp_path):
    best_first = [[[9.0, 9.0]], [[1.0, 1.0]], [[1.0, 1.0]]]
    pruner = partial(optuna.pruners.MedianPruner, n_startup_trials=1, n_warmup_steps=0)
    assert search_by_hooks(tmp_path, pruner, best_first) == [2, 1, 1]
    assert search_by_hooks(tmp_path, pruner, best_first, at_a_time=2) == [2, 2, 1]


def test_a_repeat_is_compared_with_the_same_repeat(tmp_path):
    # Seed 1 is the harder one: its 4 beats the others' 3, though all of seed 0 have 8.
    curves = [[[8.0, 8.0], [3.0, 3.0]], [[8.0, 8.0], [3.0, 3.0]], [[9.0, 9.0], [4.0, 4.0]]]
    pruner = partial(optuna.pruners.MedianPruner, n_startup_trials=1, n_warmup_steps=0)
    assert search_by_hooks(tmp_path, pruner, curves, repeats=2) == [2] * 6


def test_nan_falls_behind_every_number(tmp_path):
    pruner = partial(optuna.pruners.MedianPruner, n_startup_trials=1, n_warmup_steps=0)
    assert search_by_hooks(tmp_path, pruner, [[[1.0, 1.0]], [[math.nan, 1.0]]]) == [2, 1]


def test_it_says_by_what_the_run_was_stopped(tmp_path):
    said, kept = [], {}
    seen = {"losses": [-1.0], "pruned": False, "notes": {}}
    done = Trial(0, {}, [["x=0"]], "complete", followed=[seen])
    write_search(tmp_path, Search({}, [done, Trial(1, {}, [["x=1"]])]))
    hook = Pruning(optuna.pruners.MedianPruner(n_startup_trials=1))
    run = run_of(tmp_path / "job", ["x=1"], said, kept)
    hook.start(run)
    hook.after_evaluation(run, {"accuracy": 0.5, "loss": 0.0})
    assert said == ["val/accuracy falls behind other trials at evaluation 1"]
    assert kept == {"trial": {"losses": [-0.5], "pruned": True, "notes": {}}}


def test_outside_of_a_search_and_with_several_objectives_it_is_an_error(tmp_path):
    hook = Pruning(optuna.pruners.NopPruner())
    with pytest.raises(ConfigError, match=r"this run is none of one. Leave it out \(hooks.pruning=null\)"):
        hook.start(run_of(tmp_path / "job", ["x=1"], [], {}))
    write_search(tmp_path, Search({"objectives": {"a": "min", "b": "max"}}, [Trial(0, {}, [["x=1"]])]))
    with pytest.raises(ConfigError, match="by which of a, b shall a trial be pruned"):
        hook.start(run_of(tmp_path / "job", ["x=1"], [], {}))
