"""When hooks are called in a run, what they leave, and how they end it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from torch.optim import SGD

from optwrap.hooks.hooks import Hooks
from optwrap.hooks.stopping import Stopping
from optwrap.optim import OptimWrapper
from tests.optwrap.hooks import own
from tests.optwrap.hooks.runs import OWN, QUICK, ToyRun, result, rows

sys.path.insert(0, str(Path(__file__).parents[1] / "resume"))
from compare import differences

NOTING = f"hooks.mine._target_={OWN}.Noting"
COUNTING = f"hooks.mine._target_={OWN}.Counting"
SCALED = (
    *("optim_wrapper=[sgd,amp]", "optim_wrapper.dtype=float16"),
    "optim_wrapper.loss_scale={init_scale: 1e30, backoff_factor: 1e-29}",
)


@pytest.fixture
def calls():
    own.CALLS.clear()
    return own.CALLS


def test_each_method_is_called_in_its_place(train, calls):
    train(*QUICK, "max_updates=3", "eval_every=2", "optim_wrapper=[sgd,accum2]", NOTING)
    metrics = ["accuracy", "loss"]
    assert calls == [
        ("start", 0, 0),
        *(("before_update", 0, 0), ("after_update", 2, 1)),
        *(("before_update", 2, 1), ("after_update", 4, 2)),
        *(("before_evaluation", 4, 2), ("after_evaluation", 4, 2, metrics)),
        *(("before_update", 4, 2), ("after_update", 6, 3)),
        *(("before_evaluation", 6, 3), ("after_evaluation", 6, 3, metrics)),
        ("end", 6, 3),
    ]


def test_a_skipped_step_is_no_update(train, calls):
    folder = train(*QUICK, "max_updates=3", "eval_every=3", *SCALED, NOTING)
    skipped = result(folder)["skipped_steps"]
    assert 0 < skipped < 3
    begun, ended = ([call[2] for call in calls if call[0] == name] for name in ("before_update", "after_update"))
    assert begun == [0, 1, 2]
    assert ended == [1, 2, 3][skipped:]


STOPPED = (*QUICK, "max_updates=12", "eval_every=12", COUNTING, "hooks.mine.until=7")


def test_what_a_hook_records_is_in_the_next_row_and_in_the_result(train):
    folder = train(*QUICK, "max_updates=12", "eval_every=12", COUNTING)
    assert [row["mine/seen"] for row in rows(folder, "train")] == ["5", "10", "12"]
    assert {row["mine/seen"] for row in rows(folder, "val")} == {""}
    assert result(folder)["mine/seen"] == 12


def test_a_stop_after_an_update_saves_evaluates_and_says_why(once):
    folder = once(*STOPPED)
    assert [(row["split"], row["update"]) for row in rows(folder)] == [("train", "5"), ("val", "7"), ("test", "7")]
    found = result(folder)
    assert (found["updates"], found["stopped"]) == (7, "mine: 7 updates seen")
    assert (folder / "checkpoints" / "update_000007.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("dies_in", ["val", "test"])
def test_a_run_that_died_after_it_was_stopped_ends_there(dies_in, train, once, monkeypatch, tmp_path):
    from optwrap.run import evaluation

    evaluate, made = evaluation.evaluate, 0

    def dying(task, batches):
        nonlocal made
        made += 1
        if made == ["val", "test"].index(dies_in) + 1:
            raise RuntimeError("the power went")
        return evaluate(task, batches)

    monkeypatch.setattr("optwrap.run.evaluate", dying, raising=False)
    folder = tmp_path / "died"
    with pytest.raises(SystemExit):
        train(*STOPPED, f"hydra.run.dir={folder}")
    monkeypatch.setattr("optwrap.run.evaluate", evaluate, raising=False)
    train(*STOPPED, "resume=auto", f"hydra.run.dir={folder}")
    assert result(folder)["stopped"] == "mine: 7 updates seen"
    assert differences(once(*STOPPED), folder) == []
    longer = (*STOPPED, "hooks.mine.until=null", "resume=auto", f"hydra.run.dir={folder}")
    train(*longer)
    assert (result(folder)["updates"], result(folder)["mine/seen"]) == (12, 12)
    assert "stopped" not in result(folder)


@pytest.mark.slow
def test_a_run_can_be_stopped_before_its_first_update_and_go_on_without_the_hook(train, tmp_path):
    folder = tmp_path / "stopped"
    plain = (*QUICK, "max_updates=3", "eval_every=3")
    train(*plain, f"hooks.mine._target_={OWN}.StoppingAtOnce", f"hydra.run.dir={folder}")
    assert [(row["split"], row["update"]) for row in rows(folder)] == [("val", "0"), ("test", "0")]
    assert result(folder)["updates"] == 0
    train(*plain, f"hydra.run.dir={folder}", "resume=auto")
    whole = train(*plain)
    assert rows(folder) == rows(whole)


@pytest.mark.slow
def test_a_hook_that_is_new_or_gone_at_a_resume_is_named(train, capsys, tmp_path):
    folder = tmp_path / "run"
    train(*QUICK, "max_updates=2", "eval_every=2", COUNTING, f"hydra.run.dir={folder}")
    capsys.readouterr()
    other = f"hooks.other._target_={OWN}.Counting"
    train(*QUICK, "max_updates=4", "eval_every=2", other, f"hydra.run.dir={folder}", "resume=auto")
    said = capsys.readouterr().out
    assert "hooks.other is new since that checkpoint: it starts anew." in said
    assert "The checkpoint has the state of hooks.mine, which this run has not." in said
    assert result(folder)["other/seen"] == 2


@pytest.mark.slow
def test_a_hook_that_is_null_is_switched_off(train):
    folder = train(*QUICK, "max_updates=1", "hooks=early_stopping", "hooks.early_stopping=null")
    assert result(folder)["updates"] == 1


def test_of_several_ranks_a_stop_inside_an_update_waits_for_its_end(twins, batches, tmp_path):
    model, _ = twins
    run = ToyRun(model, OptimWrapper(SGD(model.parameters(), lr=0.1), 4), batches, tmp_path)
    for between_updates, stops_at in ((False, [6, 8]), (True, [8])):
        run.given.plan = replace(run.plan, between_updates=between_updates)
        run.given.stopping = Stopping()
        hooks = Hooks({}, run.given)
        run.given.stopping.ask("mine")
        run.given.stopping.agree()
        found = []
        for count in (5, 6, 8):
            hooks.after_evaluation({}, count)
            found += [count] * hooks.stopping
        assert found == [5] * (not between_updates) + stops_at


def test_a_stop_before_an_update_ends_the_run_after_it(twins, batches, tmp_path):
    class Early:
        def before_update(self, run):
            if run.update == 2:
                run.stop("two are enough")

    model, _ = twins
    run = ToyRun(model, OptimWrapper(SGD(model.parameters(), lr=0.1)), batches, tmp_path)
    run(early=Early())
    assert run.optim_wrapper.updates == 3
