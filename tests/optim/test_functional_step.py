"""The lists of a step are gathered once: whatever changes between two steps must be noticed."""

import functools
import gc
import types
import warnings
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import StepLR

from optwrap.optim import AmpOptimWrapper, OptimWrapper

KINDS = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}
ARGS = {SGD: {"lr": 0.1, "momentum": 0.9}, Adam: {"lr": 0.1}, AdamW: {"lr": 0.1}}


def weights():
    return [nn.Parameter(torch.linspace(-1, 1, n)) for n in (3, 4, 5)]


def fill(params, seed):
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)


def trained(kind, between, wrap, steps=6, **kwargs):
    """Return the parameters after steps with a change, `between(optimizer, step)`, before each."""
    params = weights()
    optimizer = kind(
        [{"params": params[:2]}, {"params": params[2:], "lr": 0.01}], **(ARGS[kind] | kwargs), fused=True
    )
    stepper = OptimWrapper(optimizer) if wrap else optimizer
    for step in range(steps):
        fill(params, step)
        between(optimizer, step)
        stepper.step()
    return [param.detach() for param in params], optimizer.state_dict()["state"]


def nothing(optimizer, step):
    pass


options = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([0.1, 0.0, torch.tensor(0.05)]),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "maximize": st.booleans(),
    }
)
momentum = st.fixed_dictionaries({"momentum": st.sampled_from([0.0, 0.9]), "nesterov": st.booleans()}).filter(
    lambda options: options["momentum"] or not options["nesterov"]
)
betas = st.fixed_dictionaries({"betas": st.sampled_from([(0.9, 0.999), (0.5, 0.9)]), "amsgrad": st.booleans()})


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(sorted(KINDS)), options)
def test_every_option_gives_what_the_optimizers_own_step_gives(data, name, common):
    own = data.draw(momentum if name == "SGD" else betas)
    ours, theirs = (trained(KINDS[name], nothing, wrap, **common, **own) for wrap in (True, False))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def new_hyperparameters(optimizer, step):
    for group in optimizer.param_groups:
        group["lr"] = 0.1 / (step + 1)
        group["weight_decay"] = 0.01 * step
        group["maximize"] = step == 4
        if "betas" in group:
            group["betas"] = (0.9 - 0.1 * step, 0.99)
        else:
            group["momentum"] = 0.9 - 0.1 * step


def replaced_state(optimizer, step):
    if step == 3:
        for state in optimizer.state.values():
            state.update({name: value.clone() * 0.5 for name, value in state.items() if name != "step"})


def replaced_dicts_of_state(optimizer, step):
    if step == 3:
        for param, state in optimizer.state.items():
            optimizer.state[param] = {name: value * 0.5 for name, value in state.items()}


def cleared_state(optimizer, step):
    if step == 3:
        optimizer.state.clear()


def loaded_state(optimizer, step):
    if step == 3:
        state = optimizer.state_dict()
        for values in state["state"].values():
            values.update({name: value * 0.5 for name, value in values.items()})
        optimizer.load_state_dict(state)


def parameters_exchanged_in_place(optimizer, step):
    if step == 3:
        first, second = (group["params"] for group in optimizer.param_groups)
        first[0], second[0] = second[0], first[0]


def parameter_that_joins_another_group(optimizer, step):
    if step == 3:
        first, second = (group["params"] for group in optimizer.param_groups)
        second.insert(0, first.pop())


def missing_gradients(optimizer, step):
    if step in (2, 3):
        optimizer.param_groups[0]["params"][step - 2].grad = None
    if step == 5:
        optimizer.zero_grad()


CHANGES = [
    nothing,
    new_hyperparameters,
    replaced_state,
    replaced_dicts_of_state,
    cleared_state,
    loaded_state,
    parameters_exchanged_in_place,
    parameter_that_joins_another_group,
    missing_gradients,
]


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_steps_is_noticed(kind, change):
    ours, theirs = (trained(kind, change, wrap) for wrap in (True, False))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    if change is not nothing:
        unchanged = trained(kind, nothing, wrap=False)
        assert not all(map(torch.equal, theirs[0], unchanged[0]))


def test_an_option_that_lacks_its_state_is_torchs_own_error():
    def amsgrad(optimizer, step):
        optimizer.param_groups[0]["amsgrad"] = step == 3

    with pytest.raises(KeyError, match="max_exp_avg_sq"):
        trained(Adam, amsgrad, wrap=True)


def test_state_of_other_strides_is_laid_out_anew():
    def train(fused):
        weight = nn.Parameter(torch.linspace(-1, 1, 48).reshape(4, 3, 2, 2).to(memory_format=torch.channels_last))
        wrapper = OptimWrapper(SGD([weight], **ARGS[SGD], fused=fused))
        for step in range(5):
            fill([weight], step)
            weight.grad = weight.grad.to(memory_format=torch.channels_last)
            if step == 3:
                state = wrapper.optimizer.state[weight]
                state["momentum_buffer"] = state["momentum_buffer"].contiguous()
            wrapper.step()
        return weight.detach()

    torch.testing.assert_close(train(None), train(False))


# Who watches or replaces the optimizer's own step -----------------------------------------------------------


def stepping(clip_grad=None, kind=SGD):
    """Return a wrapper that has made three steps, and a function that makes another."""
    params = weights()
    wrapper = OptimWrapper(kind(params, **ARGS[kind]), clip_grad=clip_grad)

    def step():
        fill(params, 0)
        wrapper.step()

    for _ in range(3):
        step()
    return wrapper, step


CLIPS = [None, {"max_norm": 0.1}]


@pytest.mark.parametrize("clip_grad", CLIPS)
def test_hooks_that_come_later_are_called_in_each_step(clip_grad):
    wrapper, step = stepping(clip_grad)
    calls = []
    handle = wrapper.optimizer.register_step_post_hook(lambda *_: calls.append(1))
    step()
    step()
    handle.remove()
    step()
    assert len(calls) == 2


@pytest.mark.parametrize("clip_grad", CLIPS)
@pytest.mark.parametrize("wraps", [functools.wraps, lambda _: lambda function: function])
def test_a_step_that_someone_replaced_is_called_in_each_step(clip_grad, wraps):
    wrapper, step = stepping(clip_grad)
    StepLR(wrapper.optimizer, 1)
    calls, own = [], wrapper.optimizer.step

    @wraps(own)
    def replaced(*args, **kwargs):
        calls.append(1)
        return own(*args, **kwargs)

    wrapper.optimizer.step = replaced
    for _ in range(3):
        step()
    assert len(calls) == 3


def test_a_step_that_someone_replaced_before_the_schedule_is_called_in_each_step():
    wrapper, step = stepping()
    calls = []

    def replaced(self, *args, **kwargs):
        calls.append(1)
        return SGD.step(self, *args, **kwargs)

    wrapper.optimizer.step = types.MethodType(replaced, wrapper.optimizer)
    StepLR(wrapper.optimizer, 1)
    step()
    step()
    assert len(calls) == 2


def test_a_step_that_someone_replaced_on_the_class_is_called_in_each_step(monkeypatch):
    _, step = stepping()
    calls, own = [], SGD.step

    @functools.wraps(own)
    def replaced(self, *args, **kwargs):
        calls.append(1)
        return own(self, *args, **kwargs)

    monkeypatch.setattr(SGD, "step", replaced)
    step()
    step()
    assert len(calls) == 2


def test_a_schedule_that_comes_later_sees_the_steps():
    wrapper, step = stepping()
    schedule = StepLR(wrapper.optimizer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it saw no step before the schedule's
        step()
        schedule.step()
    assert wrapper.get_lr() == {"lr": [pytest.approx(0.01)]}


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_a_profiler_finds_torchs_own_records(kind):
    wrapper, step = stepping(kind=kind)
    with torch.profiler.profile() as profile:
        step()
        wrapper.zero_grad()
    names = {event.key for event in profile.key_averages()}
    assert {f"Optimizer.step#{kind.__name__}.step", f"Optimizer.zero_grad#{kind.__name__}.zero_grad"} <= names


def test_a_loaded_state_does_not_keep_the_old_one_in_memory():
    wrapper, _ = stepping()
    state = next(iter(wrapper.optimizer.state.values()))
    old = weakref.ref(state["momentum_buffer"])
    del state
    wrapper.load_state_dict(wrapper.state_dict())
    gc.collect()
    assert old() is None


def test_a_scale_that_a_gradscaler_left_is_heeded():
    results = []
    for ours in (True, False):
        wrapper, step = stepping()
        params = wrapper.param_groups[0]["params"]
        wrapper.optimizer.grad_scale, wrapper.optimizer.found_inf = torch.tensor(4.0), torch.tensor(0.0)
        if ours:
            step()
        else:
            fill(params, 0)
            wrapper.optimizer.step()
        results.append([param.detach() for param in params])
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_an_overflow_moves_neither_parameters_nor_state_in_a_later_step():
    params = weights()
    wrapper = AmpOptimWrapper(AdamW(params, lr=0.1), dtype="float16")
    for step in range(4):
        fill(params, step)
        for param in params:
            param.grad *= wrapper.loss_scaler.get_scale() if step < 3 else float("inf")
        wrapper.loss_scaler.scale(torch.zeros(()))
        before = [param.detach().clone() for param in params]
        wrapper.step()
    assert all(map(torch.equal, params, before))
    assert wrapper.skipped_steps == 1
    assert [state["step"].item() for state in wrapper.optimizer.state.values()] == [3, 3, 3]


# Zeroing gradients ------------------------------------------------------------------------------------------


def test_gradients_are_dropped_or_zeroed_as_asked():
    wrapper, _ = stepping()
    params = wrapper.param_groups[0]["params"]
    wrapper.zero_grad(set_to_none=False)
    assert all(torch.equal(param.grad, torch.zeros_like(param)) for param in params)
    wrapper.zero_grad()
    assert all(param.grad is None for param in params)


def test_a_zero_grad_of_the_users_own_is_called():
    calls = []

    class Own(SGD):
        def zero_grad(self, set_to_none=True):
            calls.append(set_to_none)
            super().zero_grad(set_to_none)

    wrapper = OptimWrapper(Own(weights(), lr=0.1))
    wrapper.zero_grad()
    plain, _ = stepping()
    plain.optimizer.zero_grad = lambda set_to_none: calls.append("replaced")
    plain.zero_grad()
    assert calls == [True, "replaced"]
