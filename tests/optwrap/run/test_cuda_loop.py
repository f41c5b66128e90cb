"""What only a CUDA device can show: that the whole loop waits for nothing between two updates with a row."""

import json

import pytest
import torch

from optwrap.run.data.delivery import copied_ahead

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

RUN = ("device=cuda", "max_updates=60", "log_every=30", "eval_every=60", "batch_size=16", "hooks=[]")


class WaitingIsAnError:
    """A hook: after update 5 and before the first row, nothing may wait for the device."""

    def after_update(self, run):
        torch.cuda.set_sync_debug_mode("error" if 5 <= run.update < 25 else "default")


@pytest.mark.parametrize("strategy", ["sgd", "[adamw,amp_bf16,clip]", "[sgd,amp,accum2,clip]", "[adamw,ema]"])
@pytest.mark.parametrize("where", [["data_on_device=true"], ["data_on_device=false", "num_workers=1"]])
def test_the_loop_waits_for_nothing_between_two_rows(strategy, where, train):
    hook = f"+hooks.silent={{_target_: {__name__}.WaitingIsAnError}}"
    try:
        folder = train(*RUN, *where, f"optim_wrapper={strategy}", hook)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert json.loads((folder / "result.json").read_text())["updates"] == 60


def test_the_samples_place_changes_no_number(train):
    places = (["data_on_device=true"], ["data_on_device=false"], ["data_on_device=false", "num_workers=2"])
    folders = [train(*RUN, "deterministic=true", *place) for place in places]
    losses = {json.loads((folder / "result.json").read_text())["test/loss"] for folder in folders}
    assert len(losses) == 1


def test_batches_copied_ahead_are_those_of_the_host_while_the_device_is_busy():
    device, batches = (
        torch.device("cuda"),
        [torch.full((256, 1024), float(each)).pin_memory() for each in range(20)],
    )
    busy, sums = torch.rand(2048, 2048, device=device), []
    for batch in copied_ahead(batches, device, torch.preserve_format, torch.cuda.Stream(device)):
        busy = busy @ busy / busy.norm()  # what the next copy must not come before
        sums.append(batch.mean())
        del batch
    assert [each.item() for each in sums] == list(range(20))


def test_a_model_in_cuda_graphs_learns_what_the_plain_one_learns(train):
    runs = [train(*RUN, "max_updates=8", f"compile={mode}") for mode in ("false", "reduce-overhead")]
    plain, graphs = (json.loads((folder / "result.json").read_text())["test/loss"] for folder in runs)
    assert graphs == pytest.approx(plain, rel=1e-3)
