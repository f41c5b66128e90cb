"""What may be put in the place of a wrapper's own: its optimizer, and the count of a subclass."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper


class Exotic(SGD):
    """Its step wants a closure."""

    def step(self, closure):
        return super().step(closure)


def test_another_optimizer_steps_as_if_the_wrapper_had_begun_with_it(twins, batches, loss_of, assert_close):
    model, twin = twins
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), accumulative_counts=2, clip_grad={"max_norm": 0.1})
    wrapper.update_params(loss_of(model, batches[0]))
    wrapper.optimizer = AdamW(model.parameters(), lr=0.01)
    by_hand = AdamW(twin.parameters(), lr=0.01)
    assert wrapper.get_lr() == {"lr": [0.01]}
    assert wrapper.defaults["betas"] == (0.9, 0.999)
    for number, batch in enumerate(batches):
        if number:
            wrapper.update_params(loss_of(model, batch))
        (loss_of(twin, batch) / 2).backward()
        if number % 2:
            nn.utils.clip_grad_norm_(twin.parameters(), 0.1)
            by_hand.step()
            by_hand.zero_grad()
    assert_close(model, twin)


def test_another_optimizer_is_looked_at_anew(caplog):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), clip_grad={"max_norm": 1.0})
    with pytest.raises(TypeError, match=r"must be a torch.optim.Optimizer, not Linear"):
        wrapper.optimizer = model[0]
    wrapper.optimizer = SGD(model[0].parameters(), lr=0.1)
    wrapper.initialize_count_status(model, 0, None)
    assert "Not trained, since they are in no param group: 1.weight, 1.bias" in caplog.text
    with pytest.raises(ConfigError, match="clip_grad: Exotic takes a closure"):
        wrapper.optimizer = Exotic(model.parameters(), lr=0.1)


@pytest.mark.parametrize("same", [True, False])
def test_averages_go_on_where_the_parameters_are_the_same(same, caplog):
    weight, bias, other = (nn.Parameter(torch.ones(1)) for _ in range(3))
    wrapper = OptimWrapper(SGD([weight, bias], lr=0.5), averaging={"kind": "ema", "decay": 0.5, "warmup": 0})
    wrapper.update_params(weight.sum() + 2 * bias.sum())
    wrapper.optimizer = SGD([bias, weight if same else other], lr=0.5)
    wrapper.update_params(weight.sum() + 2 * bias.sum() + other.sum())
    with wrapper.evaluation_weights():
        assert bias.item() == (-0.5 if same else -1.0)
        assert weight.item() == (0.25 if same else 0.5)
    assert ("averages begin anew" in caplog.text) is not same


class Counts(OptimWrapper):
    """As subclasses for MMEngine are written."""

    def backward(self, loss, **kwargs):
        loss.backward(**kwargs)
        self._inner_count += 1


class Forgets(OptimWrapper):
    def backward(self, loss, **kwargs):
        loss.backward(**kwargs)


@pytest.mark.parametrize("kind", [Counts, Forgets])
def test_a_backward_of_ones_own_makes_windows_of_their_length(kind, twins, batches, loss_of, assert_close):
    model, twin = twins
    wrapper = kind(SGD(model.parameters(), lr=0.1), accumulative_counts=3)
    plain = OptimWrapper(SGD(twin.parameters(), lr=0.1), accumulative_counts=3)
    for each, own in ((wrapper, model), (plain, twin)):
        each.initialize_count_status(own, 0, len(batches))
        for batch in batches:
            each.update_params(loss_of(own, batch))
    assert (wrapper.inner_count, wrapper.updates) == (plain.inner_count, plain.updates) == (8, 3)
    assert_close(model, twin)


def test_a_count_of_ones_own_can_be_set(twins):
    wrapper = copy.deepcopy(OptimWrapper(SGD(twins[0].parameters(), lr=0.1), accumulative_counts=2))
    wrapper._inner_count = 4
    assert wrapper.inner_count == wrapper._inner_count == 4
    assert wrapper.should_update()


def test_batch_norm_under_accumulation_is_said_once(caplog):
    caplog.set_level("INFO")
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    for _ in range(2):
        wrapper.initialize_count_status(model, 0, None)
    assert caplog.text.count("accumulative_counts=2: batch norm") == 1
    caplog.clear()
    OptimWrapper(SGD(model.parameters(), lr=0.1)).initialize_count_status(model, 0, None)
    OptimWrapper(SGD(model.parameters(), lr=0.1), 2).initialize_count_status(model[0], 0, None)
    assert "batch norm" not in caplog.text
