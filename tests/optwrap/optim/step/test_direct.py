"""The lists of a step are gathered once: whatever changes between two steps must be noticed."""

import copy
import functools
import gc
import pickle
import types
import warnings
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import StepLR

from optwrap.optim import AmpOptimWrapper, OptimWrapper

KINDS = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}
ARGS = {SGD: {"lr": 0.1, "momentum": 0.9}, Adam: {"lr": 0.1}, AdamW: {"lr": 0.1}, Adagrad: {"lr": 0.1}}


def weights():
    return [nn.Parameter(torch.linspace(-1, 1, n)) for n in (4, 4, 5)]


def fill(params, seed):
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)


def trained(kind, between, wrap, steps=6, max_norm=None, **kwargs):
    """Return parameters and state after steps with a change, `between(optimizer, step)`, before each."""
    params = weights()
    optimizer = kind(
        [{"params": params[:2]}, {"params": params[2:], "lr": 0.01}], **(ARGS[kind] | kwargs), fused=True
    )
    clip_grad = max_norm and {"max_norm": max_norm}
    stepper = OptimWrapper(optimizer, clip_grad=clip_grad) if wrap else optimizer
    for step in range(steps):
        fill(params, step)
        between(optimizer, step)
        if max_norm and not wrap:
            torch.nn.utils.clip_grad_norm_(params, max_norm)
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
TENSORS = (torch.tensor(0.9), torch.tensor(0.99))
betas = st.fixed_dictionaries(
    {"betas": st.sampled_from([(0.9, 0.999), (0.5, 0.9), TENSORS]), "amsgrad": st.booleans()}
)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(sorted(KINDS)), options, st.sampled_from([None, 0.1, 1e3]))
def test_every_option_gives_what_the_optimizers_own_step_gives(data, name, common, max_norm):
    own = data.draw(momentum if name == "SGD" else betas)
    ours, theirs = (
        trained(KINDS[name], nothing, wrap, max_norm=max_norm, **common, **own) for wrap in (True, False)
    )
    close = {"rtol": 1e-5, "atol": 1e-6} if max_norm else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(ours, theirs, **close)


def new_hyperparameters(optimizer, step):
    for group in optimizer.param_groups:
        group["lr"] = 0.1 / (step + 1)
        group["weight_decay"] = 0.01 * step
        group["maximize"] = step == 4
        if step == 5:
            group["lr"] = torch.tensor(group["lr"])
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


def state_that_lies_elsewhere(optimizer, step):
    if step == 3:
        for state in optimizer.state.values():
            for name in state.keys() - {"step"}:
                state[name].data = state[name].data * 0.5


def state_of_another_parameter(optimizer, step):
    if step == 3:
        first, second = optimizer.param_groups[0]["params"]
        optimizer.state[first] = optimizer.state.pop(second)
        optimizer.state[second] = {name: value * 0.5 for name, value in optimizer.state[first].items()}


def a_note_in_the_state(optimizer, step):
    if step == 3:
        optimizer.state["note"] = 1


def momentum_under_another_name(optimizer, step):
    if step == 3:
        for state in optimizer.state.values():
            if "momentum_buffer" in state:
                state["old"] = state.pop("momentum_buffer")
            else:
                state["exp_avg"], state["exp_avg_sq"] = state["exp_avg_sq"], state["exp_avg"].abs()


def a_hook_that_removes_itself(optimizer, step):
    if step == 1:

        def once(*_):
            handle.remove()
            optimizer.param_groups[0]["params"][0].grad = None

        handle = optimizer.register_step_post_hook(once)


def parameters_exchanged_in_place(optimizer, step):
    if step == 3:
        first, second = (group["params"] for group in optimizer.param_groups)
        first[0], second[0] = second[0], first[0]


def parameter_that_joins_another_group(optimizer, step):
    if step == 3:
        first, second = (group["params"] for group in optimizer.param_groups)
        second.insert(0, first.pop())


def group_without_gradients(optimizer, step):
    optimizer.param_groups[1]["params"][0].grad = None


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
    state_that_lies_elsewhere,
    state_of_another_parameter,
    momentum_under_another_name,
    loaded_state,
    parameters_exchanged_in_place,
    parameter_that_joins_another_group,
    missing_gradients,
    group_without_gradients,
]


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_steps_is_noticed(kind, change):
    ours, theirs = (trained(kind, change, wrap) for wrap in (True, False))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    if change is not nothing:
        unchanged = trained(kind, nothing, wrap=False)
        assert not all(map(torch.equal, theirs[0], unchanged[0]))


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_hook_of_one_step_changes_no_later_one(kind):
    ours, theirs = (trained(kind, a_hook_that_removes_itself, wrap) for wrap in (True, False))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("size", [2, 100])
@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, Adagrad])
def test_state_of_another_size_is_torchs_own_error(kind, size):
    def train(after):
        weight = nn.Parameter(torch.ones(8))
        wrapper = OptimWrapper(kind([weight], **ARGS[kind]))
        for step in range(6):
            if step == after:
                weight.data = torch.ones(size)
            weight.grad = torch.ones_like(weight)
            wrapper.step()

    for after in (1, 2, 4):
        with pytest.raises(RuntimeError, match="must match the size of tensor b"):
            train(after)


@pytest.mark.parametrize("of", ["parameter", "state"])
@pytest.mark.parametrize("kind", [SGD, Adam])
def test_what_is_transposed_in_place_is_noticed(kind, of):
    def train(fused):
        weight = nn.Parameter(torch.arange(9.0).reshape(3, 3))
        wrapper = OptimWrapper(kind([weight], **ARGS[kind], fused=fused))
        weight.grad = torch.zeros_like(weight)
        for step in range(6):
            weight.grad.copy_(torch.randn(3, 3, generator=torch.Generator().manual_seed(step)))
            if step == 4 and of == "parameter":
                weight.data = weight.data.t()
            if step == 4 and of == "state":
                wrapper.optimizer.state[weight]["exp_avg" if kind is Adam else "momentum_buffer"].t_()
            wrapper.step()
        return weight.detach()

    torch.testing.assert_close(train(None), train(False))


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_what_is_no_parameters_state_is_left_alone(kind):
    ours, theirs = (trained(kind, change, wrap=True) for change in (a_note_in_the_state, nothing))
    assert ours[1].pop("note") == 1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_a_group_of_parameters_of_two_dtypes(kind):
    def train(wrap):
        params = [*weights(), nn.Parameter(torch.linspace(-1, 1, 6, dtype=torch.float64))]
        optimizer = kind(params, **ARGS[kind], fused=True)
        stepper = OptimWrapper(optimizer) if wrap else optimizer
        for step in range(4):
            fill(params[:3], step)
            params[3].grad = torch.full_like(params[3], step)
            stepper.step()
        return [param.detach() for param in params]

    torch.testing.assert_close(train(True), train(False), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"amsgrad": True}, "max_exp_avg_sq"),
        ({"differentiable": True}, "differentiable"),
        ({"foreach": True, "lr": torch.tensor(0.1)}, "lr as a Tensor is not supported"),
    ],
)
def test_an_option_that_does_not_fit_is_torchs_own_error(change, error):
    def between(optimizer, step):
        if step == 4:
            optimizer.param_groups[0].update(change)

    for wrap in (True, False):
        with pytest.raises((KeyError, RuntimeError), match=error):
            trained(Adam, between, wrap)


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("kind", [SGD, AdamW, Adagrad])
def test_state_of_other_strides_is_laid_out_anew(kind, hooked):
    def train(fused):
        weight = nn.Parameter(torch.linspace(-1, 1, 48).reshape(4, 3, 2, 2).to(memory_format=torch.channels_last))
        wrapper = OptimWrapper(kind([weight], **ARGS[kind], fused=fused))
        if hooked:
            wrapper.optimizer.register_step_post_hook(lambda *_: None)
        for step in range(6):
            fill([weight], step)
            weight.grad = weight.grad.to(memory_format=torch.channels_last)
            state = wrapper.optimizer.state[weight]
            if step == 2:
                state.update({name: value.contiguous() for name, value in state.items()})
            if step == 4:
                for value in state.values():
                    value.data = value.data.contiguous()
            wrapper.step()
        return weight.detach()

    torch.testing.assert_close(train(None), train(False))


def test_a_momentum_that_was_taken_away_begins_anew():
    def train(fused):
        params = weights()
        wrapper = OptimWrapper(SGD(params, **ARGS[SGD], fused=fused))
        for step in range(5):
            fill(params, step)
            if step == 3:
                wrapper.optimizer.state[params[0]]["momentum_buffer"] = None
            wrapper.step()
        return [param.detach() for param in params]

    torch.testing.assert_close(train(None), train(False))


@pytest.mark.parametrize(("first", "second"), [(SGD, AdamW), (AdamW, SGD)])
def test_groups_that_another_optimizer_was_given_too(first, second):
    """Each of the two writes its options into them."""

    def train(wrap):
        params = weights()
        groups = [{"params": params}]
        first(groups, **ARGS[first])
        optimizer = second(groups, **ARGS[second])
        stepper = OptimWrapper(optimizer) if wrap else optimizer
        for step in range(4):
            fill(params, step)
            stepper.step()
        return [param.detach() for param in params]

    torch.testing.assert_close(train(True), train(False))


def test_a_parameter_that_a_group_holds_twice():
    def train(fused):
        params = weights()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of it
            optimizer = SGD([*params, params[0]], **ARGS[SGD], fused=fused)
        wrapper = OptimWrapper(optimizer)
        for step in range(4):
            fill(params, step)
            wrapper.step()
        return [param.detach() for param in params]

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


@pytest.mark.parametrize("amp", [False, True])
def test_a_step_that_someone_replaced_finds_finished_gradients(amp):
    seen = []
    params = weights()
    optimizer = SGD(params, **ARGS[SGD])
    if amp:
        wrapper = AmpOptimWrapper(optimizer, clip_grad={"max_norm": 0.1}, dtype="float16")
    else:
        wrapper = OptimWrapper(optimizer, clip_grad={"max_norm": 0.1})
    optimizer.step = lambda: seen.append(torch.cat([param.grad for param in params]).norm().item())
    for _ in range(3):
        wrapper.update_params(sum(param.sum() for param in params))
    assert seen == [pytest.approx(0.1, rel=1e-3)] * 3


@pytest.mark.parametrize("step_of", [lambda other: other.step, lambda other: None])
def test_a_step_that_is_not_this_optimizers(step_of):
    outcomes = []
    for wrap in (True, False):
        wrapper, step = stepping()
        other = SGD(weights(), lr=0.1)
        wrapper.optimizer.step = step_of(other)
        fill(other.param_groups[0]["params"], 0)
        try:
            step() if wrap else wrapper.optimizer.step()
            outcomes.append(other.param_groups[0]["params"][0].tolist())
        except TypeError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def test_an_optimizer_that_becomes_another_class():
    calls = []

    class Own(SGD):
        def _init_group(self, *args):
            calls.append(1)
            return super()._init_group(*args)

    wrapper, step = stepping()
    wrapper.optimizer.__class__ = Own
    step()
    assert calls == [1]


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


def clear(wrapper):
    wrapper.optimizer.state.clear()


def load(wrapper):
    wrapper.load_state_dict(wrapper.state_dict())


def load_past_the_wrapper(wrapper):
    wrapper.optimizer.load_state_dict(copy.deepcopy(wrapper.optimizer.state_dict()))


def replace(wrapper):
    for state in wrapper.optimizer.state.values():
        state.update({name: value.clone() for name, value in state.items()})


@pytest.mark.parametrize("change", [clear, load, load_past_the_wrapper, replace])
@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_state_that_was_replaced_leaves_memory_at_once(kind, change):
    wrapper, _ = stepping(kind=kind)
    old = [weakref.ref(value) for state in wrapper.optimizer.state.values() for value in state.values()]
    change(wrapper)
    gc.collect()
    assert [reference() for reference in old] == [None] * len(old)


def test_a_wrapper_with_a_schedule_can_be_pickled_and_copied():
    wrapper, step = stepping()
    StepLR(wrapper.optimizer, 1)
    for _ in range(3):
        step()
    for copied in (lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy):
        other = copied(wrapper)
        params = other.param_groups[0]["params"]
        for seed in range(3):
            for each, own in ((other, params), (wrapper, wrapper.param_groups[0]["params"])):
                fill(own, seed)
                each.step()
        torch.testing.assert_close(params, wrapper.param_groups[0]["params"], rtol=0, atol=0)


@pytest.mark.parametrize("clip_grad", CLIPS)
@pytest.mark.parametrize(
    "told", [{"grad_scale": torch.tensor(4.0)}, {"found_inf": torch.tensor(1.0)}, {"found_inf": torch.tensor(0.0)}]
)
def test_what_a_gradscaler_told_the_optimizer_is_heeded(told, clip_grad):
    results = []
    for ours in (True, False):
        wrapper, step = stepping(clip_grad)
        params = wrapper.param_groups[0]["params"]
        vars(wrapper.optimizer).update(told)
        if ours:
            step()
        else:
            fill(params, 0)
            if clip_grad is not None:
                torch.nn.utils.clip_grad_norm_(params, **clip_grad)
            wrapper.optimizer.step()
        results.append([param.detach() for param in params])
    torch.testing.assert_close(*results)


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


def keeps(self, set_to_none=False):
    Optimizer.zero_grad(self, set_to_none)


def takes_nothing(self):
    Optimizer.zero_grad(self, set_to_none=False)


def takes_more(self, set_to_none=False, *, optimizer=None):
    Optimizer.zero_grad(self, set_to_none)


@pytest.mark.parametrize("own", [keeps, takes_nothing, takes_more])
@pytest.mark.parametrize("where", ["subclass", "instance"])
def test_a_zero_grad_of_the_users_own_is_called_as_it_is(own, where):
    params = weights()
    fill(params, 0)
    kind = type("Own", (SGD,), {"zero_grad": own}) if where == "subclass" else SGD
    wrapper = OptimWrapper(kind(params, lr=0.1))
    if where == "instance":
        wrapper.optimizer.zero_grad = types.MethodType(own, wrapper.optimizer)
    wrapper.zero_grad(**({"optimizer": None} if own is takes_more else {}))
    assert all(torch.equal(param.grad, torch.zeros_like(param)) for param in params)
