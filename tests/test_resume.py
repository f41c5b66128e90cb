"""Runs that are ended and go on: what comes out is what an uninterrupted run gives."""

import json
import sys
from pathlib import Path

import pytest
import torch

from optwrap.vision import ClassificationTask

sys.path.insert(0, str(Path(__file__).parent / "resume"))
from compare import differences

QUICK = (
    *("data=fake", "data.size=40", "data.eval_size=8", "data.image_size=8", "data.augment=false", "batch_size=4"),
    *("epochs=2", "log_every=3", "checkpoint.every=2", "device=cpu", "deterministic=true"),
)
STRATEGIES = {
    "plain": [],
    "windows": ["optim_wrapper=[sgd,accum4,clip]", "schedule=one_cycle", "eval_every=2", "schedule.lr.max_lr=0.1"],
    "scaled": ["optim_wrapper=[adamw,amp,accum2]", "optim_wrapper.loss_scale={init_scale: 4, growth_interval: 2}"],
    "plateau": ["schedule=ReduceLROnPlateau", "schedule.lr.patience=0", "schedule.lr.threshold=1", "eval_every=2"],
    "hybrid": ["optim_wrapper=hybrid_muon", "model=small_vit"],
}


@pytest.fixture
def dies_at(monkeypatch):
    """Make training end with an error in a micro-batch, as a crash would."""

    def arrange(micro_batch):
        train_step, count = ClassificationTask.train_step, 0

        def step(self, batch, optim_wrapper):
            nonlocal count
            count += 1
            if count == micro_batch:
                monkeypatch.setattr(ClassificationTask, "train_step", train_step)
                raise RuntimeError("the power went")
            return train_step(self, batch, optim_wrapper)

        monkeypatch.setattr(ClassificationTask, "train_step", step)

    return arrange


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_that_died_ends_as_the_uninterrupted_one(strategy, train, dies_at):
    whole = train(*QUICK, *STRATEGIES[strategy])
    dies_at(14)
    folder = whole.with_name("died")
    with pytest.raises(SystemExit):
        train(*QUICK, *STRATEGIES[strategy], f"hydra.run.dir={folder}")
    assert json.loads((folder / "status.json").read_text())["status"] == "failed"
    torch.manual_seed(5)
    train(f"resume={folder}")
    assert differences(whole, folder) == []
