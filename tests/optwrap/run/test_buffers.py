import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD

from optwrap.optim import AmpOptimWrapper, OptimWrapper
from optwrap.plan.plan import Plan
from optwrap.run.nonfinite import NonFiniteWatch

NAN = float("nan")
PLAN = Plan(micro_batches=40, per_epoch=10, accumulative_counts=1, log_every=50, eval_every=None)


class Counted(nn.Sequential):
    """A model with a buffer that is replaced, and one that the state dict leaves out."""

    def __init__(self, *layers):
        super().__init__(*layers)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mask", torch.full((2,), float("-inf")), persistent=False)

    def forward(self, inputs):
        self.seen = self.seen + inputs.sum()
        return super().forward(inputs)


def network():
    return Counted(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def watch_of(model, **wrappers):
    return NonFiniteWatch("skip", wrappers, PLAN, lambda count: None, model=model)


def micro_batches(count, bad=()):
    inputs = [torch.randn(5, 3) for _ in range(count)]
    for i in bad:
        inputs[i][0, 0] = NAN
    return inputs


def plain_loop(model, windows):
    """What the model comes to by plain PyTorch."""
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    for window in windows:
        for inputs in window:
            (model(inputs).square().mean() / len(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


def feed(watch, wrapper, model, inputs, start=0):
    for count, each in enumerate(inputs, start=start + 1):
        loss = model(each).square().mean()
        wrapper.update_params(loss)
        watch.add({"loss": loss}, count)


@pytest.mark.parametrize("clip_grad", [None, {"max_norm": 1e9}])
@pytest.mark.parametrize(("window", "bad"), [(1, [1]), (1, [0, 3]), (2, [2]), (2, [5]), (3, [0, 1])])
def test_the_buffers_of_a_dropped_update_are_those_from_before_it(window, bad, clip_grad, assert_close):
    model = network()
    expected = copy.deepcopy(model)
    inputs = micro_batches(6, bad)
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1, momentum=0.9), window, clip_grad)
    watch = watch_of(model, wrapper=wrapper)
    feed(watch, wrapper, model, inputs)
    windows = [inputs[i : i + window] for i in range(0, 6, window)]
    plain_loop(expected, [each for each in windows if not any(one.isnan().any() for one in each)])
    assert_close(model, expected)
    assert expected[1].num_batches_tracked < 6


def test_of_several_steps_in_a_micro_batch_the_bad_one_alone_is_undone(assert_close):
    model = network()
    expected = copy.deepcopy(model)
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1, momentum=0.9))
    watch = watch_of(model, wrapper=wrapper)
    inputs = micro_batches(3, bad=[1])
    for each in inputs:
        wrapper.update_params(model(each).square().mean())
    watch.add({}, 1)
    plain_loop(expected, [inputs[:1], inputs[2:]])
    assert_close(model, expected)


def test_a_gan_whose_discriminator_is_fed_nan_trains_its_generator_on(assert_close):
    def step(model, noise, real, update):
        fake = model["g"](noise)
        update("d", model["d"](real).square().mean() + model["d"](fake.detach()).square().mean())
        update("g", model["d"](fake).square().mean())  # through a graph from before the other's step

    model = nn.ModuleDict({"g": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), "d": network()})
    wrappers = {name: OptimWrapper(SGD(part.parameters(), lr=0.1)) for name, part in model.items()}
    watch = watch_of(model, **wrappers)
    noise, real = [torch.randn(5, 2) for _ in range(4)], micro_batches(4, bad=[2])
    for count in range(4):
        step(model, noise[count], real[count], lambda name, loss: wrappers[name].update_params(loss))
        watch.add({}, count + 1)
    assert (wrappers["d"].updates, wrappers["g"].updates) == (3, 4)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    # In three passes of the real, the fake and the generator's, and the generator's of the bad one.
    assert model["d"][1].num_batches_tracked == 10


def test_the_longest_window_is_undone_whole():
    model = nn.ModuleDict({"slow": network(), "fast": network()})
    slow = OptimWrapper(SGD(model["slow"].parameters(), lr=0.1), accumulative_counts=3)
    fast = OptimWrapper(SGD(model["fast"].parameters(), lr=0.1))
    watch = watch_of(model, slow=slow, fast=fast)
    for count, inputs in enumerate(micro_batches(3, bad=[1]), start=1):
        fast.update_params(model["fast"](torch.ones_like(inputs)).square().mean())
        slow.update_params(model["slow"](inputs).square().mean())
        watch.add({}, count)
    assert (slow.updates, fast.updates) == (0, 3)
    assert model["slow"][1].num_batches_tracked == 0
    assert model["slow"][1].running_mean.isfinite().all()


def test_a_run_that_goes_on_inside_a_window_knows_the_buffers_from_before_it(assert_equal):
    model = network()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    watch = watch_of(model, wrapper=wrapper)
    before = copy.deepcopy(model)
    first, second = micro_batches(2, bad=[0])
    feed(watch, wrapper, model, [first])
    again = copy.deepcopy(model)
    wrapper_again = OptimWrapper(SGD(again.parameters(), lr=0.1), accumulative_counts=2)
    for param, other in zip(again.parameters(), model.parameters(), strict=True):
        param.grad = other.grad
    wrapper_again.load_state_dict(wrapper.state_dict())
    watch_again = watch_of(again, wrapper=wrapper_again)
    watch_again.load_state(watch.state())
    feed(watch_again, wrapper_again, again, [second], start=1)
    assert wrapper_again.skipped_steps == 1
    assert_equal(again, before)
    assert watch_again.state() is None


@pytest.mark.parametrize("state", [None, [torch.ones(7)], ["x"], 3])
def test_what_is_no_state_of_these_buffers_changes_nothing(state, assert_equal):
    model = network()
    before = copy.deepcopy(model)
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1))
    watch = watch_of(model, wrapper=wrapper)
    watch.load_state(state)
    feed(watch, wrapper, model, micro_batches(1, bad=[0]))
    assert_equal(model, before)


def test_under_loss_scaling_poisoned_buffers_come_back_and_good_ones_stay_as_in_torch(assert_equal):
    model = network()
    wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), dtype="float16", device_type="cpu")
    watch = watch_of(model, wrapper=wrapper)
    bad, good = micro_batches(2, bad=[0])
    before = copy.deepcopy(model)

    def step(inputs, factor, count):
        with wrapper.optim_context(model):
            loss = model(inputs).square().mean() * factor
        wrapper.update_params(loss)
        watch.add({"loss": loss}, count)

    step(bad, 1.0, 1)
    assert wrapper.skipped_steps == 1
    assert_equal(model, before)
    step(good, 1e30, 2)  # the forward pass is good, the scaled gradients are inf
    assert wrapper.skipped_steps == 2
    assert model[1].num_batches_tracked == 1
