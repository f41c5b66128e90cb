"""Runs whose data lacks a split."""

import pytest

import evaluate
from optwrap.errors import ConfigError
from tests.optwrap.cases import one_in
from tests.optwrap.run.data.runs import on, result, rows

NO_VAL = on("mapping", "data.val=null", "epochs=1")


def fails(train, capsys, *overrides):
    with pytest.raises(SystemExit) as end:
        train(*overrides)
    seen = capsys.readouterr().err
    assert end.value.code == 1
    assert "Traceback" not in seen
    return seen


def test_without_val_the_objective_is_of_test_and_a_line_says_so(train):
    folder = train(*on("mapping", "data.val=0", "epochs=2"))
    assert [row["split"] for row in rows(folder)] == ["train"] * 12 + ["test"]
    assert result(folder)["objective"] == "test/accuracy"
    assert result(folder).keys() >= {"test/accuracy", "test/loss"}
    assert "val/accuracy" not in result(folder)
    assert "data.val is missing or empty: the objective is test/accuracy" in (folder / "train.log").read_text()
    with pytest.raises(ConfigError, match=r"split=val: data\.val is missing or empty.*split=test"):
        evaluate.main([f"run={folder}", "split=val", "allow=tests"])
    with pytest.raises(ConfigError, match=r"best\.pt"):
        evaluate.main([f"run={folder}", "checkpoint=best", "allow=tests"])
    assert evaluate.main([f"run={folder}", "allow=tests"])["accuracy"] == result(folder)["test/accuracy"]


@pytest.mark.slow
def test_a_finished_run_without_val_knows_that_it_is(train):
    folder = train(*NO_VAL)
    before = (folder / "metrics.csv").read_text()
    train(*NO_VAL, f"resume={folder}")
    assert "this run is finished (test/accuracy" in (folder / "train.log").read_text()
    assert (folder / "metrics.csv").read_text() == before


def test_without_test_val_is_evaluated_as_ever(train):
    folder = train(*on("mapping", "data.test=null", "epochs=2"))
    assert [row["split"] for row in rows(folder) if row["split"] != "train"] == ["val", "val"]
    assert result(folder)["objective"] == "val/accuracy"
    assert (folder / "checkpoints" / "best.pt").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    one_in(2, [
        (("objective=val/loss",), "objective=val/loss: data.val is missing or empty"),
        (("objective=val/accuracy",), "or objective=test/accuracy"),
        (("data.test=null",), "data.val and data.test are missing or empty"),
        (("hooks=early_stopping",), "hooks.early_stopping follows an evaluation on val, and data.val is missing"),
        (("schedule=warmup_plateau",), "follows an evaluation on val, and data.val is missing"),
        (("data.train=0",), "data.train is empty"),
    ]),
)  # fmt: skip
def test_what_needs_val_is_refused_before_training(overrides, said, train, capsys):
    assert said in fails(train, capsys, *NO_VAL, *overrides)
