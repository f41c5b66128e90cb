import pytest
import torch
from torch import nn
from torch.optim import SGD

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper
from optwrap.run.meters import GradNorm, TrainMeter
from optwrap.run.plan import Plan

PLAN = Plan(micro_batches=40, per_epoch=10, accumulative_counts=4, log_every=2, eval_every=None)


def stats(loss, accuracy=0.5):
    return {"loss": torch.tensor(loss), "accuracy": torch.tensor(accuracy)}


def test_means_are_over_the_micro_batches_since_the_start():
    meter = TrainMeter()
    meter.add(stats(100.0), 8, 1)
    meter.start()
    for count, loss in enumerate((1.0, 2.0, 6.0), start=2):
        meter.add(stats(loss), 8, count)
    means, samples_per_second = meter.read(PLAN)
    assert means == {"loss": 3.0, "accuracy": 0.5}
    assert samples_per_second > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_bad_loss_is_named_by_epoch_and_update(bad):
    meter = TrainMeter()
    for count, loss in enumerate([1.0] * 12 + [bad, 1.0, float("nan")], start=1):
        meter.add(stats(loss), 8, count)
    with pytest.raises(ConfigError, match=r"epoch 2, update 4 \(micro-batch 13\).*lr"):
        meter.read(PLAN)


@pytest.mark.parametrize("clip_grad", [None, {"max_norm": 1e-3}, {"clip_value": 1e-3}])
def test_grad_norm_is_measured_before_clipping_by_norm(clip_grad):
    model = nn.Linear(3, 1)
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.0), clip_grad=clip_grad)
    norm = GradNorm(optim_wrapper, lambda update: update == 2)
    values = []
    for scale in (1.0, 2.0, 3.0):
        optim_wrapper.update_params(scale * model(torch.ones(1, 3)).sum())
        values.append(norm.value)
    if clip_grad is None:
        assert values[0] is None
        assert values[1].item() == values[2].item() == pytest.approx(4.0)
    elif "max_norm" in clip_grad:
        assert [value.item() for value in values] == pytest.approx([2.0, 4.0, 6.0])
    else:
        assert values[1].item() == pytest.approx(2e-3)  # what is left of it


def test_a_closed_grad_norm_measures_nothing():
    model = nn.Linear(3, 1)
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.0))
    norm = GradNorm(optim_wrapper, lambda update: True)
    norm.close()
    optim_wrapper.update_params(model(torch.ones(1, 3)).sum())
    assert norm.value is None
