import pytest
import torch
from torch import nn
from torch.optim import SGD

from optwrap.optim import OptimWrapper
from optwrap.record.meters import GradNorm, TrainMeter


def stats(loss, accuracy=0.5):
    return {"loss": torch.tensor(loss), "accuracy": torch.tensor(accuracy)}


def test_means_are_over_the_micro_batches_since_the_start():
    meter = TrainMeter()
    meter.add(stats(100.0), 8)
    meter.start()
    for loss in (1.0, 2.0, 6.0):
        meter.add(stats(loss), 8)
    means, samples_per_second = meter.read()
    assert means == {"loss": 3.0, "accuracy": 0.5}
    assert samples_per_second > 0


def test_a_row_goes_on_where_its_state_was_taken():
    whole, first, second = TrainMeter(), TrainMeter(), TrainMeter()
    for meter, losses in ((whole, (1.0, 2.5, 3.7)), (first, (1.0, 2.5))):
        for loss in losses:
            meter.add(stats(loss), 8)
    second.load_state_dict(first.state_dict())
    second.add(stats(3.7), 8)
    assert second.read()[0] == whole.read()[0]


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
