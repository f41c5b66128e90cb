"""Hooks on two ranks: they stop together, measure what one rank would, and change nothing."""

import csv

import pytest
import torch

from tests.optwrap.distributed.harness import result, weights
from tests.optwrap.distributed.test_run import command

pytestmark = pytest.mark.slow
COUNTING = "hooks.mine._target_=tests.optwrap.hooks.own.Counting"
PLAIN = ("optim_wrapper=[sgd,clip]", "deterministic=true", "max_updates=4")
SHARDS = (*PLAIN, "strategy=fsdp2")
STOPPING = ("max_updates=6", "eval_every=6", COUNTING, "hooks.mine.until=2")
RUNS = {
    "plain": PLAIN,
    "measured": (*PLAIN, "hooks=[update_ratio,gradient_noise,model_summary]"),
    "swept": (*PLAIN, "hooks=lr_finder", "hooks.lr_finder.updates=5", "hooks.lr_finder.go_on=true"),
    "shards": SHARDS,
    "shards measured": (*SHARDS, "hooks=[update_ratio,model_summary]"),
    "shards swept": (*SHARDS, "hooks=lr_finder", "hooks.lr_finder.updates=5", "hooks.lr_finder.go_on=true"),
    "stopped by one": (*STOPPING, "hooks.mine.rank=1"),
    "stopped by all": STOPPING,
    "early": ("max_updates=20", "hooks=early_stopping", "hooks.early_stopping.patience=1"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, ranks):
    base = tmp_path_factory.mktemp("hooks")
    ranks(2, [command(base / name, *overrides) for name, overrides in RUNS.items()], base)
    # The later job goes on with the earlier.
    ranks(2, [command(base / "stopped by one", *RUNS["stopped by one"], "resume=auto")], base)
    alone = (*RUNS["measured"], "optim_wrapper=[sgd,clip,accum2]", "batch_size=16")
    ranks(1, [command(base / "alone", *alone)], base)
    return base


def rows(folder, split="train"):
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


@pytest.mark.parametrize(
    ("plain", "hooked"),
    [("plain", "measured"), ("plain", "swept"), ("shards", "shards measured"), ("shards", "shards swept")],
)
def test_weights_are_those_without_hooks_to_the_bit(plain, hooked, folders):
    own, expected = weights(folders / hooked), weights(folders / plain)
    assert all(torch.equal(own[name], value) for name, value in expected.items())


@pytest.mark.parametrize("column", ["noise", "gradient"])
def test_the_noise_among_ranks_is_that_among_the_micro_batches_of_one(column, folders):
    own, expected = (rows(folders / name) for name in ("measured", "alone"))
    name = f"gradient_noise/{column}"
    assert [float(row[name]) for row in own] == pytest.approx([float(row[name]) for row in expected], rel=1e-2)


@pytest.mark.parametrize("name", ["measured", "shards measured"])
@pytest.mark.parametrize("column", ["group0", "group0.grad_norm"])
def test_the_update_ratio_is_that_of_one_rank(name, column, folders):
    own, expected = (rows(folders / each) for each in (name, "alone"))
    name = f"update_ratio/{column}"
    assert [float(row[name]) for row in own] == pytest.approx([float(row[name]) for row in expected], rel=1e-2)


@pytest.mark.parametrize("name", ["measured", "shards measured"])
def test_parameters_and_flops_are_those_of_all_ranks(name, folders):
    own, expected = result(folders / name), result(folders / "alone")
    assert own["model_summary/parameters"] == expected["model_summary/parameters"]
    assert own["model_summary/flops"] == 2 * expected["model_summary/flops"]


@pytest.mark.parametrize("name", ["stopped by one", "stopped by all"])
def test_ranks_stop_together_one_update_after_it_was_asked(name, folders):
    assert result(folders / name)["updates"] == 3
    assert result(folders / name)["stopped"] == "mine: 2 updates seen"


def test_early_stopping_goes_by_the_metrics_of_all_ranks(folders):
    found = result(folders / "early")
    values = [float(row["accuracy"]) for row in rows(folders / "early", "val")]
    assert found["stopped"].startswith("early_stopping: val/accuracy")
    assert values[-1] <= max(values[:-1])
    assert values[:-1] == sorted(set(values[:-1]))
