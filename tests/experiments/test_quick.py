"""Every experiment with a quick setting runs in it; the template's own have one, and headers with commands."""

import csv
import json
import re
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NAMES = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
QUICK = sorted(path.stem for path in EXPERIMENTS.glob("quick/*.yaml"))
IS_TEMPLATE = (EXPERIMENTS.parent / "README.md").read_text().startswith("# optwrap\n")
only_here = pytest.mark.skipif(not IS_TEMPLATE, reason="a project's own experiments need neither")


def header(name):
    lines = (EXPERIMENTS / f"{name}.yaml").read_text().splitlines()
    return "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")])


@only_here
def test_every_experiment_has_a_quick_setting():
    assert QUICK == NAMES


# Each of them has a neighbour that is nearly the same.
LONG = {
    "digits",
    "efficientnet_lite",
    "finetune",
    "gan",
    "gpt_muon",
    "mnist_strategies",
    "strategies",
    "weighted_tokens",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in QUICK]
)
def test_the_quick_setting_trains_and_records(name, train):
    folder = train(f"experiment=quick/{name}", "device=cpu")
    result = json.loads((folder / "result.json").read_text())
    assert result["updates"] > 0
    with (folder / "metrics.csv").open() as file:
        assert {row["split"] for row in csv.DictReader(file)} >= {"train", "val", "test"}


@only_here
@pytest.mark.parametrize("name", NAMES)
def test_the_header_gives_the_command(name):
    assert re.search(rf"python train\.py .*experiment={name}", header(name)), header(name)


def test_the_factors_of_the_paramwise_sweep_reach_the_optimizer(train):
    folder = train("experiment=quick/paramwise", "optim_wrapper.paramwise_cfg.norm_decay_mult=0")
    with (folder / "param_groups.csv").open() as file:
        decay = {row["name"]: float(row["weight_decay"]) for row in csv.DictReader(file)}
    assert decay["stem.1.weight"] == 0
    assert decay["stem.0.weight"] == 0.05
