import csv
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torchmetrics import MeanMetric, MetricCollection

import optwrap
from optwrap.errors import ConfigError
from optwrap.loggers import Logger
from optwrap.loggers.trackers import Named, build_trackers
from optwrap.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from optwrap.plan.objective import Objective
from optwrap.plan.plan import Plan, Position
from optwrap.record.recorder import Recorder

TASK = SimpleNamespace(metrics=MetricCollection({"loss": MeanMetric()}))
PLAN = Plan(micro_batches=4, per_epoch=2, accumulative_counts=1, log_every=1, eval_every=None)


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def run(folder, optim_wrapper, losses=(4.0, 3.0, 2.0, 1.0), **logger):
    trackers = build_trackers({"logger": logger}, folder, Named("run"))
    with Recorder(folder, PLAN, optim_wrapper, trackers) as recorder:
        for count, loss in enumerate(losses, start=1):
            recorder.train_step({"loss": torch.tensor(loss)}, 8, count)
            if PLAN.evaluates_after(count):
                recorder.evaluation("val", {"loss": loss / 2}, count)
        recorder.evaluation("test", {"loss": 0.25}, count)
    return recorder.finish(seed=3, objective=Objective("val/loss", TASK))


@pytest.fixture
def optim_wrapper(toy_model):
    return build_optim_wrapper(toy_model, {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.5}})


def test_rows_of_training_and_evaluation_stand_in_order(tmp_path, optim_wrapper):
    assert run(tmp_path, optim_wrapper) == 0.5
    seen = [(row["split"], row["epoch"], row["update"], float(row["loss"])) for row in rows(tmp_path)]
    assert seen == [
        ("train", "1", "1", 4.0),
        ("train", "1", "2", 3.0),
        ("val", "1", "2", 1.5),
        ("train", "2", "3", 2.0),
        ("train", "2", "4", 1.0),
        ("val", "2", "4", 0.5),
        ("test", "2", "4", 0.25),
    ]
    assert rows(tmp_path)[0]["lr"] == "0.5"


def test_further_columns_stand_in_the_next_row_alone(tmp_path, optim_wrapper):
    plan, columns = replace(PLAN, log_every=2), {"seen": torch.tensor(3.0), "none": None}
    with Recorder(tmp_path, plan, optim_wrapper) as recorder:
        for count in (1, 2, 3, 4):
            recorder.train_step({"loss": torch.tensor(1.0)}, 8, count, columns)
    assert [(row["seen"], row["none"]) for row in rows(tmp_path)] == [("3", ""), ("", "")]
    assert columns == {}


def test_a_pause_before_the_first_micro_batch_is_left_out_of_the_throughput(tmp_path, optim_wrapper, monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Recorder(tmp_path, PLAN, optim_wrapper) as recorder:
        now = 100.0
        recorder.pause()
        now = 102.0
        recorder.train_step({"loss": torch.tensor(1.0)}, 8, 1)
    assert float(rows(tmp_path)[0]["samples_per_second"]) == 4


def test_the_units_that_the_ranks_have_seen_add_up(tmp_path, optim_wrapper, monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    # The other rank has seen three times as much, in the same time.
    ranks = SimpleNamespace(size=2, is_first=True, mean=lambda own: {name: 2 * each for name, each in own.items()})
    with Recorder(tmp_path, PLAN, optim_wrapper, ranks=ranks, unit="tokens") as recorder:
        now = 2.0
        recorder.train_step({"loss": torch.tensor(1.0), "tokens": torch.tensor(10)}, 8, 1)
    (row,) = rows(tmp_path)
    assert float(row["tokens_per_second"]) == 5 + 15
    assert "tokens" not in row


def test_training_rows_can_be_left_out(tmp_path, optim_wrapper):
    run(tmp_path, optim_wrapper, csv={"train_rows": False})
    assert [row["split"] for row in rows(tmp_path)] == ["val", "val", "test"]


def test_the_result_holds_final_metrics_seed_updates_seconds_and_versions(tmp_path, optim_wrapper):
    run(tmp_path, optim_wrapper)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["val/loss"], result["test/loss"], result["seed"]) == (0.5, 0.25, 3)
    assert result["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert result["versions"]["optwrap"] == optwrap.__version__  # installed under this name, another or none
    assert result["seconds"] >= 0


def test_the_folder_holds_the_table_of_param_groups_and_the_curves(tmp_path, optim_wrapper):
    run(tmp_path, optim_wrapper)
    with (tmp_path / "param_groups.csv").open() as file:
        assert {row["name"]: row["lr"] for row in csv.DictReader(file)}["head.bn.weight"] == "0.5"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_events_are_written_where_asked_for(tmp_path, optim_wrapper):
    pytest.importorskip("tensorboard")
    run(tmp_path, optim_wrapper, tensorboard={"_target_": "optwrap.loggers.TensorBoardLogger"})
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_several_wrappers_have_columns_of_their_own(tmp_path):
    wrappers = OptimWrapperDict(
        gen=OptimWrapper(SGD(nn.Linear(1, 1).parameters(), lr=0.1)),
        disc=OptimWrapper(SGD(nn.Linear(1, 1).parameters(), lr=0.2)),
    )
    run(tmp_path, wrappers)
    assert (rows(tmp_path)[0]["gen.lr"], rows(tmp_path)[0]["disc.lr"]) == ("0.1", "0.2")
    assert "lr" not in rows(tmp_path)[0]


@pytest.mark.parametrize("factor", [0, 0.1, 10])
def test_the_lr_is_that_of_what_no_rule_changes(tmp_path, toy_model, factor):
    first = next(iter(dict(toy_model.named_parameters())))
    optimizer = {"_target_": "torch.optim.SGD", "lr": 0.5}
    paramwise = {"custom_keys": {first: {"lr_mult": factor}}}
    run(tmp_path, build_optim_wrapper(toy_model, {"optimizer": optimizer, "paramwise_cfg": paramwise}))
    assert {row["lr"] for row in rows(tmp_path) if row["split"] == "train"} == {"0.5"}


def test_a_run_whose_every_step_was_skipped_is_no_success(tmp_path, optim_wrapper):
    optim_wrapper.skipped_steps = 4
    with pytest.raises(ConfigError, match="all 4 steps were skipped"):
        run(tmp_path, optim_wrapper)


def test_a_resumed_run_has_the_rows_of_an_uninterrupted_one(tmp_path, optim_wrapper):
    losses, plan = (4.0, 3.5, 3.0, 2.5, 2.0, 1.5), Plan(6, 3, 1, log_every=2, eval_every=None)

    def go_on(folder, start, end, resumed=None):
        part = replace(plan, start=Position(start))
        with Recorder(folder, part, optim_wrapper, resumed=resumed) as recorder:
            for count, loss in list(enumerate(losses, start=1))[start:end]:
                recorder.train_step({"loss": torch.tensor(loss)}, 8, count)
                if count == 3:
                    state = recorder.state_dict()
                if plan.evaluates_after(count):
                    recorder.evaluation("val", {"loss": loss / 2}, count)
        return state if start == 0 else None

    (tmp_path / "whole").mkdir(), (tmp_path / "parts").mkdir()
    go_on(tmp_path / "whole", 0, 6)
    state = go_on(tmp_path / "parts", 0, 5)  # two rows more than the checkpoint knows
    go_on(tmp_path / "parts", 3, 3, state)  # and then nothing until
    go_on(tmp_path / "parts", 3, 6, state)
    times = {"seconds", "samples_per_second"}
    whole, parts = (
        [{name: cell for name, cell in row.items() if name not in times} for row in rows(tmp_path / name)]
        for name in ("whole", "parts")
    )
    assert [row["update"] for row in whole] == ["2", "3", "4", "6", "6"]
    assert parts == [row for row in whole if (row["split"], row["update"]) != ("val", "3")]


def test_the_status_says_how_the_run_ended(tmp_path, optim_wrapper):
    def status():
        return json.loads((tmp_path / "status.json").read_text())

    for error, named in ((RuntimeError, "failed"), (KeyboardInterrupt, "interrupted")):
        recorder = Recorder(tmp_path, PLAN, optim_wrapper)
        recorder.__enter__()
        assert status() == {"status": "running", "update": 0, "updates": 4}
        recorder.train_step({"loss": torch.tensor(1.0)}, 8, 1)
        recorder.__exit__(error, error(), None)
        assert status() == {"status": named, "update": 1, "updates": 4}
    run(tmp_path, optim_wrapper)
    assert status() == {"status": "finished", "update": 4, "updates": 4}


class Told(Logger):
    """Keeps what it is told, in the order of its calls."""

    words: ClassVar[list[str]] = []

    def log(self, split, row):
        self.words.append(f"{split} {row['update']}")

    def close(self, status):
        self.words.append(f"close {status}")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError, ["train 1", "train 2", "close failed"]),
        (KeyboardInterrupt, ["train 1", "close interrupted"]),
    ],
)
def test_trackers_get_what_a_checkpoint_holds_and_of_a_failed_run_all(tmp_path, optim_wrapper, error, told):
    Told.words.clear()
    trackers = build_trackers({"logger": {"told": {"_target_": Told}}}, tmp_path, Named("run"))

    def part(recorder):
        with recorder:
            recorder.train_step({"loss": torch.tensor(1.0)}, 8, 1)
            recorder.state_dict()
            recorder.train_step({"loss": torch.tensor(1.0)}, 8, 2)
            recorder.saved()
            raise error

    with pytest.raises(error):
        part(Recorder(tmp_path, PLAN, optim_wrapper, trackers))
    assert Told.words == told
