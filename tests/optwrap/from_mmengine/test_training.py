"""Lengths, evaluations, batch size, scaled lr and averages."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from optwrap.from_mmengine import training
from optwrap.from_mmengine.experiment import experiment_of
from optwrap.from_mmengine.training import Length


def train_cfg(cfg: dict[str, Any], accumulative_counts: int = 1) -> tuple[dict[str, Any], list[str]]:
    part = training.train_cfg_of(cfg, training.length_of(cfg, accumulative_counts))
    return part.keys, part.left


@pytest.mark.parametrize(
    "cfg", [{"by_epoch": True, "max_epochs": 9}, {"type": "EpochBasedTrainLoop", "max_epochs": 9}]
)
def test_epochs_stay_epochs(cfg: dict[str, Any]) -> None:
    assert train_cfg({**cfg, "val_interval": 1}, accumulative_counts=4) == ({"epochs": 9}, [])


def test_epochs_between_evaluations() -> None:
    assert train_cfg({"max_epochs": 9, "val_interval": 5}) == ({"epochs": 9, "eval_epochs": 5}, [])


def test_iterations_become_updates() -> None:
    cfg = {"type": "mmengine.runner.IterBasedTrainLoop", "max_iters": 1001, "val_interval": 100}
    assert train_cfg(cfg) == ({"max_updates": 1001, "eval_every": 100}, [])
    assert train_cfg(cfg, accumulative_counts=4) == ({"max_updates": 251, "eval_every": 25}, [])


@pytest.mark.parametrize(
    ("key", "value"),
    [("val_begin", 13), ("dynamic_intervals", [[280, 1]]), ("type", "MyLoop"), ("x", 1)],
)
def test_what_a_run_here_has_not_is_said(key: str, value: Any) -> None:
    keys, (line,) = train_cfg({"max_epochs": 9, key: value})
    assert keys == {"epochs": 9}
    assert line.startswith(f"train_cfg.{key}=")


def test_a_length_that_is_missing_is_said() -> None:
    assert train_cfg({}) == ({}, [])
    keys, (line,) = train_cfg({"by_epoch": True})
    assert keys == {}
    assert "no length" in line


def test_the_lr_follows_the_samples_only_where_it_does_there() -> None:
    on, off = {"enable": True, "base_batch_size": 16}, {"enable": False, "base_batch_size": 16}
    assert training.auto_scale_lr_of(on, 4) == {"auto_scale_lr": {"base_batch_size": 64, "rule": "linear"}}
    assert training.auto_scale_lr_of(off, 1) == training.auto_scale_lr_of({"base_batch_size": 16}, 1) == {}
    assert "base_batch_size: 16" in training.left_of_scaling(off, 1).notes[0]
    assert training.left_of_scaling(on, 1).notes == []


def test_the_batch_size_of_one_process() -> None:
    part = training.batch_of({"train_dataloader": {"batch_size": 32}})
    assert part.keys == {"batch_size": 32}
    assert "of one process" in part.notes[0]
    assert training.batch_of({"train_dataloader": None}).keys == {}


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        ({"momentum": 1e-4}, {"decay": 1 - 1e-4, "warmup": 0.0, "batch_norm": "copy"}),
        ({}, {"decay": 1 - 2e-4, "warmup": 0.0, "batch_norm": "copy"}),
        (
            {"momentum": 0.5, "interval": 3, "update_buffers": True, "begin_iter": 8, "priority": 49},
            {"every": 3, "decay": 0.5, "warmup": 0.0, "batch_norm": "average", "begin": 4.0},
        ),
        ({"ema_type": "StochasticWeightAverage"}, {"batch_norm": "copy"}),
    ],
)
def test_the_average_of_a_hook(hook: dict[str, Any], expected: dict[str, Any]) -> None:
    part = training.averaging_of([{"type": "Other"}, {"type": "EMAHook", **hook}], Length(False, 100, 2))
    assert part.keys == {"averaging": expected}
    assert part.options == ["swa" if "ema_type" in hook else "ema"]
    assert part.left == []


def test_an_average_that_begins_with_an_epoch_leaves_out_a_part_of_the_run() -> None:
    part = training.averaging_of([{"type": "EMAHook", "begin_epoch": 6}], Length(True, 10))
    assert part.keys["averaging"]["begin"] == 0.5


@pytest.mark.parametrize(
    "hook",
    [
        {"type": "EMAHook", "ema_type": "ExpMomentumEMA"},
        {"type": "EMAHook", "ema_type": "MyEMA"},
        {"type": "EMAHook", "evaluate_on_origin": True},
        {"type": "ExponentialMovingAverageHook", "module_keys": "generator_ema"},
    ],
)
def test_other_averages_are_said(hook: dict[str, Any]) -> None:
    (line,) = training.averaging_of([hook], Length(True, 10)).left
    assert line.startswith("custom_hooks")


@pytest.mark.parametrize(("counts", "until"), [(1, 3000), (2, 1500)])
def test_what_counts_iterations_in_a_schedule_counts_updates(counts: int, until: int) -> None:
    given = [
        {"type": "LinearLR", "by_epoch": False, "begin": 0, "end": 3000, "start_factor": 0.1},
        {"type": "MultiStepLR", "milestones": [8, 11], "end": 12},
    ]
    wrapper = {"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": counts}
    config = {"optim_wrapper": wrapper, "train_cfg": {"max_epochs": 12}, "param_scheduler": given}
    text, _, _ = experiment_of(config, Path("own.py"))
    warmup, steps = yaml.safe_load(text)["schedule"]["lr"]
    assert warmup == {"linear": {"start_factor": 0.1}, "endpoint": True, "until": until}
    assert steps["multi_step"]["milestones"] == [8, 11]
    assert steps["per"] == "epoch"
