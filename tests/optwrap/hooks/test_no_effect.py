"""Hooks that measure leave a run as it would be without them, and runs with hooks resume to the bit."""

import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from optwrap.vision import ClassificationTask
from tests.optwrap.cases import one_in
from tests.optwrap.hooks.runs import QUICK

sys.path.insert(0, str(Path(__file__).parents[1] / "resume"))
from compare import differences

STRATEGIES = {
    "clipped": ["optim_wrapper=[sgd,accum2,clip]"],
    "scaled": [
        "optim_wrapper=[adamw,amp,accum2,clip]",
        "optim_wrapper.dtype=float16",
        "optim_wrapper.loss_scale={init_scale: 1e6, growth_interval: 2}",
    ],
    "plain": ["optim_wrapper=[adamw,accum2]"],
    "hybrid": ["optim_wrapper=[hybrid_muon,accum2]", "model=small_vit"],
    "skipping": ["optim_wrapper=[sgd,accum2,clip]", "on_nonfinite=skip"],
}
MEASURING = "hooks=[model_summary,update_ratio,gradient_noise]"
SWEEPING = ("hooks=[lr_finder]", "hooks.lr_finder.updates=5", "hooks.lr_finder.go_on=true")
RUN = (*QUICK, "max_updates=7", "eval_every=3", "log_every=2")


@pytest.fixture(autouse=True)
def _steps_draw_random_numbers(monkeypatch):
    train_step = ClassificationTask.train_step

    def step(self, batch, optim_wrapper):
        torch.rand(()), np.random.rand(), random.random()
        return train_step(self, batch, optim_wrapper)

    monkeypatch.setattr(ClassificationTask, "train_step", step)


def differences_beside_hooks(first, second):
    """What differs in two runs of which one has hooks: their own columns, entries and state left out."""
    own = ("checkpoint.config.hooks", "checkpoint.hooks", "checkpoint.recorder.columns")
    found = [each for each in differences(first, second) if not each.startswith(own)]
    return [each for each in found if not ("/" in each and each.endswith("is in one only"))]


@pytest.mark.parametrize("strategy", one_in(len(STRATEGIES), list(STRATEGIES)))
@pytest.mark.parametrize("hooks", one_in(2, [((MEASURING,),), (SWEEPING,)], ["measuring", "sweeping"]))
def test_a_run_is_the_same_with_hooks_to_the_bit(strategy, hooks, train, once):
    plain = once(*RUN, *STRATEGIES[strategy])
    assert differences_beside_hooks(plain, train(*RUN, *STRATEGIES[strategy], *hooks)) == []


# With accum2, one inside an update and two at its end.
CASES = [(strategy, micro_batch) for strategy in ("clipped", "scaled") for micro_batch in (9, 6, 12)]


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "micro_batch"), CASES)
def test_a_run_with_hooks_goes_on_to_the_bit(strategy, micro_batch, train, once, monkeypatch, tmp_path):
    hooks = "hooks=[update_ratio,gradient_noise,early_stopping]"
    overrides = (*RUN, "log_every=1", *STRATEGIES[strategy], hooks, "hooks.early_stopping.patience=2")
    whole = once(*overrides)
    train_step, count = ClassificationTask.train_step, 0

    def step(self, batch, optim_wrapper):
        nonlocal count
        count += 1
        if count == micro_batch:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(self, batch, optim_wrapper)

    monkeypatch.setattr(ClassificationTask, "train_step", step)
    folder = tmp_path / "interrupted"
    with pytest.raises(SystemExit):
        train(*overrides, f"hydra.run.dir={folder}")
    train(*overrides, f"hydra.run.dir={folder}", "resume=auto")
    assert differences(whole, folder) == []


@pytest.mark.slow
def test_an_update_that_is_dropped_after_a_sweep_leaves_the_buffers_from_after_it(train, monkeypatch):
    train_step = ClassificationTask.train_step

    def step(self, batch, optim_wrapper):
        if (
            optim_wrapper.inner_count == 0 and optim_wrapper.max_counts == 14
        ):  # the first of the run, not of the sweep
            batch = [batch[0] * float("nan"), batch[1]]
        return train_step(self, batch, optim_wrapper)

    monkeypatch.setattr(ClassificationTask, "train_step", step)
    plain = train(*RUN, *STRATEGIES["skipping"])
    assert torch.load(plain / "checkpoint.pt")["counters"][""]["skipped_steps"] == 1
    assert differences_beside_hooks(plain, train(*RUN, *STRATEGIES["skipping"], *SWEEPING)) == []
