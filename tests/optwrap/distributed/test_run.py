"""A run on several ranks as a whole: its folder, its errors, and what it goes on from."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
import torch

from tests.optwrap import forking
from tests.optwrap.cases import one_in
from tests.optwrap.distributed.harness import result, run_ranks, weights

ROOT = Path(__file__).parents[3]
SMALL = (
    *("data=digits", "data.augment=false", "model=small_vit", "model.dim=16", "model.depth=1", "model.heads=2"),
    "batch_size=32",
    *("device=cpu", "log_every=1", "schedule=constant", "eval_every=2", "optim_wrapper=[sgd,accum2,clip]"),
)
TASKS = "tests.optwrap.distributed.tasks"


def command(folder, *overrides):
    return [*SMALL, f"hydra.run.dir={folder}", *overrides]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, ranks):
    """Runs of 4 updates, on two ranks and on one."""
    base = tmp_path_factory.mktemp("run")
    ranks(2, [command(base / "whole", "max_updates=4")], base)
    ranks(1, [command(base / "alone", "max_updates=4")], base)
    return base


@pytest.fixture(scope="module")
def halves(folders, ranks):
    """Runs in two halves on other ranks: by what their names say."""
    base = folders
    half, whole = "max_updates=2", ("max_updates=4", "resume=auto")
    ranks(
        2,
        [
            command(base / "ddp-alone", half),
            command(base / "ddp-fsdp2", half),
            command(base / "fsdp2-alone", half, "strategy=fsdp2"),
            command(base / "ddp-fsdp2", *whole, "strategy=fsdp2"),
        ],
        base,
    )
    alone = [
        command(base / "ddp-alone", *whole),
        command(base / "fsdp2-alone", *whole),
        command(base / "alone-ddp", half),
    ]
    ranks(1, alone, base)
    ranks(2, [command(base / "alone-ddp", *whole)], base)
    return base


HALVES = ["ddp-alone", "alone-ddp", "fsdp2-alone", "ddp-fsdp2"]


def test_a_run_on_several_ranks_is_that_on_one(folders):
    check_same(folders, "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", HALVES)
def test_a_run_goes_on_under_another_strategy_and_number_of_ranks(name, halves):
    check_same(halves, name)


def check_same(folder, name):
    expected = weights(folder / "alone")
    torch.testing.assert_close(weights(folder / name), expected, rtol=1e-3, atol=2e-5)
    check_evaluation(folder, name)


def check_evaluation(folder, name):
    """Every sample is evaluated once."""
    own, expected = result(folder / name), result(folder / "alone")
    assert own["test/accuracy"] == pytest.approx(expected["test/accuracy"], abs=1e-6)
    assert own["test/loss"] == pytest.approx(expected["test/loss"], rel=1e-4)


def test_every_sample_is_evaluated_once(folders):
    check_evaluation(folders, "whole")


def test_training_rows_are_means_over_the_ranks(folders):
    rows = [list(csv.DictReader((folders / name / "metrics.csv").open())) for name in ("whole", "alone")]
    for own, expected in zip(*rows, strict=True):
        assert (own["split"], own["update"]) == (expected["split"], expected["update"])
        assert float(own["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-3)
        assert float(own["accuracy"]) == pytest.approx(float(expected["accuracy"]), abs=1e-6)


def test_rank_0_writes_the_folder_and_the_others_their_log(folders):
    names = {path.name for path in (folders / "whole").iterdir()}
    alone = {path.name for path in (folders / "alone").iterdir()}
    assert names - alone == {"train_rank1.log"}
    assert "ddp over 2 ranks of 16 samples each, batch_size=32." in (folders / "whole" / "train.log").read_text()
    assert (folders / "whole" / "train.log").read_text().count("Finished") == 1
    groups = [(folders / name / "param_groups.csv").read_text() for name in ("whole", "alone")]
    assert groups[0] == groups[1]


@pytest.mark.slow
def test_a_sharded_run_is_evaluated_by_one_process(halves):
    folder = halves / "ddp-fsdp2"
    groups = [(halves / name / "param_groups.csv").read_text() for name in ("ddp-fsdp2", "alone")]
    assert groups[0] == groups[1]
    done = subprocess.run(
        [forking.python(), "evaluate.py", f"run={folder}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    shown = dict(line.split() for line in done.stdout.splitlines() if line.startswith("test/"))
    assert float(shown["test/accuracy"]) == pytest.approx(result(folder)["test/accuracy"], abs=1e-4)


FAILURES = {
    "task.mood=bad: this rank has had enough.": [f"task._target_={TASKS}.FailingTask"],
    "the ranks hold different weights in": [f"task._target_={TASKS}.BypassingTask"],
    "is NaN or inf since epoch 1": [f"task._target_={TASKS}.NanTask"],
}


@pytest.mark.parametrize("message", one_in(3, list(FAILURES)))
def test_an_error_on_any_rank_ends_all_with_its_message(message, tmp_path):
    ends = run_ranks(2, [command(tmp_path / "run", "max_updates=4", *FAILURES[message])], tmp_path)
    assert all(code for code, _ in ends)
    said = [error for _, error in ends if message in error]
    assert len(said) == 1, "\n".join(error for _, error in ends)
    assert "Traceback" not in said[0]
    if (tmp_path / "run" / "status.json").exists():
        assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"
        assert message in (tmp_path / "run" / "train.log").read_text()
