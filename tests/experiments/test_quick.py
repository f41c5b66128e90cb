"""Every experiment runs in its quick setting, and its header gives its command."""

import csv
import json
import re
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NAMES = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))


def header(name):
    lines = (EXPERIMENTS / f"{name}.yaml").read_text().splitlines()
    return "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")])


@pytest.mark.parametrize("name", NAMES)
def test_the_quick_setting_trains_and_records(name, train):
    folder = train(f"experiment=quick/{name}", "device=cpu")
    result = json.loads((folder / "result.json").read_text())
    assert result["updates"] > 0
    with (folder / "metrics.csv").open() as file:
        assert {row["split"] for row in csv.DictReader(file)} >= {"train", "val", "test"}


@pytest.mark.parametrize("name", NAMES)
def test_the_header_gives_the_command(name):
    assert re.search(rf"python train\.py .*experiment={name}", header(name)), header(name)


def test_the_factors_of_the_paramwise_sweep_reach_the_optimizer(train):
    folder = train("experiment=quick/paramwise", "optim_wrapper.paramwise_cfg.norm_decay_mult=0")
    with (folder / "param_groups.csv").open() as file:
        decay = {row["name"]: float(row["weight_decay"]) for row in csv.DictReader(file)}
    assert decay["stem.1.weight"] == 0
    assert decay["stem.0.weight"] == 0.05
