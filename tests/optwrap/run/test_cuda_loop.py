"""What only a CUDA device can show: that the whole loop waits for nothing between two updates with a row."""

import json

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

RUN = ("device=cuda", "max_updates=60", "log_every=30", "eval_every=60", "batch_size=16", "hooks=[]")


class WaitingIsAnError:
    """A hook: after update 5 and before the first row, nothing may wait for the device."""

    def after_update(self, run):
        torch.cuda.set_sync_debug_mode("error" if 5 <= run.update < 25 else "default")


@pytest.mark.parametrize("strategy", ["sgd", "[adamw,amp_bf16,clip]", "[sgd,amp,accum2,clip]", "[adamw,ema]"])
@pytest.mark.parametrize("where", ["data_on_device=true", "data_on_device=false"])
def test_the_loop_waits_for_nothing_between_two_rows(strategy, where, train):
    hook = f"+hooks.silent={{_target_: {__name__}.WaitingIsAnError}}"
    try:
        folder = train(*RUN, where, f"optim_wrapper={strategy}", hook)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert json.loads((folder / "result.json").read_text())["updates"] == 60


def test_the_samples_place_changes_no_number(train):
    folders = [train(*RUN, "deterministic=true", f"data_on_device={there}") for there in ("true", "false")]
    losses = [json.loads((folder / "result.json").read_text())["test/loss"] for folder in folders]
    assert losses[0] == losses[1]
