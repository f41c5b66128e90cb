from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import SGD

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper
from optwrap.record.meters import GradNorm, TrainMeter, unit_of


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


def of_tokens(loss, tokens):
    return {"loss": torch.tensor(loss), "tokens": torch.tensor(tokens)}


def test_units_that_a_task_counts_are_summed_and_their_loss_is_a_plain_mean(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    meter = TrainMeter("tokens")
    meter.add(of_tokens(1.0, 30), 8)
    meter.add(of_tokens(2.0, 10), 8)
    now = 5.0
    assert meter.read() == ({"loss": 1.5}, 8.0)


def test_where_a_task_counts_no_units_they_are_the_samples(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    meter = TrainMeter("images")
    meter.add(of_tokens(1.0, 30), 8)
    now = 4.0
    assert meter.read() == ({"loss": 1.0, "tokens": 30.0}, 2.0)


def test_a_row_of_units_goes_on_where_its_state_was_taken(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 1.0)  # so that a speed is units over the least time there is
    whole, first, second = (TrainMeter("tokens") for _ in range(3))
    for meter, counts in ((whole, (30, 10, 7)), (first, (30, 10))):
        for tokens in counts:
            meter.add(of_tokens(1.0, tokens), 8)
    second.load_state_dict(first.state_dict())
    second.add(of_tokens(1.0, 7), 8)
    assert second.read() == whole.read()


def test_a_checkpoint_from_before_units_goes_on():
    meter = TrainMeter("images")
    before = {"names": ["loss"], "sum": torch.tensor([3.0]), "micro_batches": 2, "samples": 16, "seconds": 1.0}
    meter.load_state_dict(before)
    meter.add({"loss": torch.tensor(6.0)}, 8)
    means, speed = meter.read()
    assert means == {"loss": 3.0}
    assert 0 < speed <= 24


@pytest.mark.parametrize(("task", "unit"), [({}, "samples"), ({"unit": "tokens"}, "tokens")])
def test_a_task_says_what_it_counts(task, unit):
    assert unit_of(SimpleNamespace(**task)) == unit


@pytest.mark.parametrize("unit", ["", "tokens per batch", 3])
def test_a_unit_that_names_no_column_is_an_error(unit):
    with pytest.raises(ConfigError, match=r"unit is .*images or tokens"):
        unit_of(SimpleNamespace(unit=unit))


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
