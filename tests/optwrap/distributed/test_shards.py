"""Checkpoints in shards: what one set of ranks has written, any other reads."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from tests.optwrap.distributed.harness import result, weights

pytestmark = pytest.mark.slow  # test_run has ranks that go on elsewhere, test_shard_saver shards on one process

sys.path.insert(0, str(Path(__file__).parents[1] / "resume"))
differences = importlib.import_module("compare").differences

SMALL = (
    *("data=digits", "data.augment=false", "model=small_vit", "model.dim=16", "model.depth=1", "model.heads=2"),
    *("batch_size=32", "device=cpu", "schedule=constant", "eval_every=2", "optim_wrapper=[adamw,accum2,clip]"),
    "optim_wrapper.optimizer.eps=0.001",  # or Adam would turn rounding errors of a gradient of 0 into steps
)
SHARDED, BACKGROUND = "checkpoint.sharded=true", ("checkpoint.sharded=true", "checkpoint.asynchronous=true")
FSDP2, DAMAGING = "strategy=fsdp2", "task._target_=tests.optwrap.distributed.tasks.DamagingTask"
WHOLE = ("max_updates=6", "resume=auto")


def command(folder, *overrides):
    return [*SMALL, f"hydra.run.dir={folder}", *overrides]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, ranks, alone):
    """Runs of 6 updates: by where they began and where they went on."""
    base = tmp_path_factory.mktemp("shards")
    alone(command(base / "alone-fsdp2", "max_updates=2", *BACKGROUND))
    ranks(
        2,
        [
            command(base / "whole", FSDP2, "max_updates=6"),
            command(base / "fsdp2-alone", FSDP2, "max_updates=2", *BACKGROUND),
            command(base / "fsdp2-ddp", FSDP2, "max_updates=2", SHARDED),
            command(base / "fsdp2-ddp", *WHOLE),
            command(base / "alone-fsdp2", FSDP2, *WHOLE),
            command(base / "damaged", FSDP2, "max_updates=4", *BACKGROUND),
            command(base / "damaged", FSDP2, *BACKGROUND, *WHOLE, DAMAGING),
        ],
        base,
    )
    alone(command(base / "fsdp2-alone", *WHOLE))
    return base


@pytest.fixture(scope="module")
def alone():
    """Run train.py in this process."""
    import logging

    from hydra.core.global_hydra import GlobalHydra

    import train as program

    before = sys.argv[:]

    def run(overrides):
        sys.argv[:] = ["train.py", *overrides]
        GlobalHydra.instance().clear()
        program.main()
        for handler in logging.getLogger().handlers[:]:
            logging.getLogger().removeHandler(handler)

    yield run
    sys.argv[:] = before


@pytest.mark.parametrize("name", ["fsdp2-alone", "fsdp2-ddp", "alone-fsdp2"])
def test_a_run_goes_on_from_shards_under_another_strategy_and_number_of_ranks(name, folders):
    torch.testing.assert_close(weights(folders / name), weights(folders / "whole"), rtol=1e-3, atol=2e-5)
    assert "Going on from" in (folders / name / "train.log").read_text()


def test_where_one_ranks_shard_is_damaged_all_go_on_from_the_checkpoint_before(folders):
    for log in ("train.log", "train_rank1.log"):
        said = (folders / "damaged" / log).read_text()
        assert "update_000004.shards/__1_0.distcp is damaged" in said
        assert "update 2 of 6." in said or log != "train.log"
    # And so it is as if nothing had been: gathered or in shards, what is saved is the same to the bit.
    found = [each for each in differences(folders / "whole", folders / "damaged") if ".config." not in each]
    assert found == []


def test_each_rank_writes_its_part_and_old_shards_go(folders):
    kept = folders / "damaged" / "checkpoints"
    named = {
        torch.load(path, weights_only=True)["shards"]["folder"]: path.name for path in sorted(kept.glob("*.pt"))
    }
    assert {"update_000004.pt", "update_000006.pt"} <= set(named.values())
    assert {path.name for path in kept.glob("*.shards*")} == set(named)
    for folder in kept.glob("*.shards"):
        parts = sorted(path for path in folder.iterdir() if path.suffix == ".distcp")
        assert [path.name for path in parts] == ["__0_0.distcp", "__1_0.distcp"]
        assert all(path.stat().st_size > 50_000 for path in parts)


def test_shards_are_evaluated_by_one_process(folders):
    import evaluate

    task = "task._target_=optwrap.vision.ClassificationTask"
    metrics = evaluate.main([f"run={folders / 'damaged'}", task])
    assert metrics["loss"] == pytest.approx(result(folders / "damaged")["test/loss"], rel=1e-5)


@pytest.mark.slow
def test_shards_of_groups_of_ranks_are_those_of_all(tmp_path, ranks):
    groups = (FSDP2, "strategy.replicas=2")
    ranks(
        4,
        [
            command(tmp_path / "whole", *groups, "max_updates=6"),
            command(tmp_path / "apart", *groups, "max_updates=2", *BACKGROUND),
            command(tmp_path / "apart", FSDP2, "max_updates=4", SHARDED, "resume=auto"),
            command(tmp_path / "apart", *groups, SHARDED, *WHOLE),
        ],
        tmp_path,
    )
    expected = weights(tmp_path / "whole")
    torch.testing.assert_close(weights(tmp_path / "apart"), expected, rtol=1e-3, atol=2e-5)
