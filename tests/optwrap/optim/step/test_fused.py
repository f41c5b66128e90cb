"""Where torch's fused kernels are silently wrong: each trap is a scenario, which the bare kernel fails."""

import logging

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop

from optwrap.optim import AmpOptimWrapper, HybridOptimizer, OptimWrapper

ARGS = {SGD: {"lr": 0.1, "momentum": 0.9}, AdamW: {"lr": 0.1}, Adagrad: {"lr": 0.1}}


def param(*shape, channels_last=False):
    tensor = torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape)
    return nn.Parameter(tensor.to(memory_format=torch.channels_last) if channels_last else tensor)


def grad_of(weight, seed):
    return torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))


def contiguous_gradient(build):
    weight = param(4, 3, 2, 2, channels_last=True)
    step = build([weight])
    for seed in range(3):
        weight.grad = grad_of(weight, seed)
        step()
    return [weight]


def moved_to_channels_last(build):
    weight = param(4, 3, 2, 2)
    step = build([weight])
    for seed in range(4):
        if seed == 2:
            weight.data = weight.data.to(memory_format=torch.channels_last)
        weight.grad = torch.empty_like(weight).copy_(grad_of(weight, seed))
        step()
    return [weight]


def moved_while_gradients_stay(build):
    weight = param(4, 3, 2, 2)
    step = build([weight])
    for seed in range(4):
        if seed == 2:
            weight.data = weight.data.to(memory_format=torch.channels_last)
        weight.grad = grad_of(weight, seed)
        step()
    return [weight]


def parameter_with_gaps(build):
    base = torch.linspace(-1, 1, 8)
    weight = nn.Parameter(base[:4])
    weight.data = base[::2]
    step = build([weight])
    for seed in range(3):
        weight.grad = torch.zeros(8)[::2].copy_(grad_of(weight, seed))
        step()
    return [weight.detach(), base]


def expanded_gradient(build):
    weight = param(6)
    step = build([weight])
    for seed in range(3):
        weight.grad = torch.full((1,), float(seed + 1)).expand(6)
        step()
    return [weight]


def gradient_from_the_second_step_on(build):
    first, second = param(3), param(4)
    step = build([first, second])
    for seed in range(4):
        first.grad = grad_of(first, seed)
        second.grad = grad_of(second, seed) if seed else None
        step()
    return [first, second]


def gradient_now_and_then(build):
    first, second = param(3), param(4)
    step = build([first, second])
    for seed in range(6):
        first.grad = grad_of(first, seed) if seed % 3 else None
        second.grad = grad_of(second, seed) if seed % 2 else None
        step()
    return [first, second]


def momentum_from_the_second_step_on(build):
    weight = param(4)
    step = build([weight])
    group = step.__self__.param_groups[0]
    for seed in range(3):
        if "momentum" in group:
            group["momentum"] = 0.9 if seed else 0.0
        weight.grad = grad_of(weight, seed)
        step()
    return [weight]


def gradient_of_another_dtype(build):
    weight = param(4)
    weight.grad_dtype = None
    step = build([weight])
    for seed in range(3):
        weight.grad = grad_of(weight, seed).bfloat16()
        step()
    return [weight]


def gradient_that_changes_dtype(build):
    weight = param(4)
    weight.grad_dtype = None
    step = build([weight])
    for seed in range(3):
        weight.grad = grad_of(weight, seed).to(torch.bfloat16 if seed else torch.float32)
        step()
    return [weight]


def sparse_gradient(build):
    table = nn.Embedding(4, 2, sparse=True, _weight=param(4, 2).detach().clone())
    step = build([table.weight])
    for row in (0, 3, 0):
        table.weight.grad = None
        table(torch.tensor([row])).sum().backward()
        step()
    return [table.weight]


def state_of_another_dtype(build):
    weight = param(4)
    step = build([weight])
    for seed in range(3):
        if seed == 1:
            weight.grad = None
            weight.data = weight.data.bfloat16()
        weight.grad = grad_of(weight, seed).to(weight.dtype)
        step()
    return [weight]


TRAPS = [
    (SGD, contiguous_gradient),
    (AdamW, contiguous_gradient),
    (Adagrad, contiguous_gradient),
    (SGD, moved_to_channels_last),
    (AdamW, moved_to_channels_last),
    (SGD, moved_while_gradients_stay),
    (SGD, parameter_with_gaps),
    (AdamW, parameter_with_gaps),
    (SGD, expanded_gradient),
    (AdamW, expanded_gradient),
    (SGD, gradient_from_the_second_step_on),
    (SGD, gradient_of_another_dtype),
    (SGD, gradient_that_changes_dtype),
    (SGD, sparse_gradient),
    (SGD, state_of_another_dtype),
]
UNCLIPPABLE = (sparse_gradient, expanded_gradient)  # by torch either
HARMLESS = [
    (AdamW, gradient_from_the_second_step_on),
    (AdamW, gradient_now_and_then),
    (SGD, gradient_now_and_then),
    (SGD, momentum_from_the_second_step_on),
]


def run(scenario, optimizer, fused, wrap=None, **kwargs):
    """Return the parameters after a scenario: under torch's own optimizer, or under a wrapper of it."""

    def build(params):
        made = optimizer(params, **(ARGS[optimizer] | kwargs), fused=fused)
        return (wrap(made) if wrap else made).step

    return [tensor.detach().clone() for tensor in scenario(build)]


def differ(first, second):
    return any(not torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("optimizer", "scenario"), TRAPS)
@pytest.mark.parametrize("fused", [None, True])
def test_what_the_bare_kernel_gets_wrong_is_right_here(optimizer, scenario, fused):
    expected = run(scenario, optimizer, fused=False)
    torch.testing.assert_close(run(scenario, optimizer, fused, OptimWrapper), expected)
    try:
        bare = run(scenario, optimizer, fused=True)
    except (RuntimeError, TypeError):
        return  # loudly wrong
    if not differ(bare, expected):
        pytest.skip("the kernel of this torch is right by itself")


@pytest.mark.parametrize(("optimizer", "scenario"), HARMLESS)
def test_what_the_bare_kernel_gets_right_stays_right(optimizer, scenario):
    expected = run(scenario, optimizer, fused=False)
    torch.testing.assert_close(run(scenario, optimizer, None, OptimWrapper), expected)


@pytest.mark.parametrize("clip_grad", [{"max_norm": 0.5}, {"max_norm": 1e3}])
@pytest.mark.parametrize(("optimizer", "scenario"), [trap for trap in TRAPS if trap[1] not in UNCLIPPABLE])
def test_the_same_with_the_clip_folded_in(optimizer, scenario, clip_grad):
    results = [
        run(scenario, optimizer, fused, lambda made: OptimWrapper(made, clip_grad=clip_grad))
        for fused in (None, False)
    ]
    # Where the parameter itself is bfloat16, only the plain loop rounds the clipped gradient to it.
    torch.testing.assert_close(*results, rtol=1e-2 if scenario is state_of_another_dtype else 1e-5, atol=1e-6)


@pytest.fixture
def poisoned_memory():
    """Memory that nothing has written holds NaN instead of what happens to be there."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_an_overflow_in_the_first_step_leaves_no_garbage_in_the_momentum(poisoned_memory):
    def train(optimizer, step):
        weight = optimizer.param_groups[0]["params"][0]
        for scale in (1e38, 1.0, 2.0):
            optimizer.zero_grad()
            step((weight * scale).sum())
        return weight.detach().clone()

    def by_hand(fused):
        optimizer = SGD([param(4)], fused=fused, **ARGS[SGD])
        scaler = torch.amp.GradScaler("cpu")

        def step(loss):
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

        return train(optimizer, step)

    def wrapped(fused):
        wrapper = AmpOptimWrapper(SGD([param(4)], fused=fused, **ARGS[SGD]), dtype="float16")
        return train(wrapper.optimizer, wrapper.update_params)

    expected = by_hand(fused=False)
    assert expected.isfinite().all()
    for fused in (None, True):
        torch.testing.assert_close(wrapped(fused), expected)
    if by_hand(fused=True).isfinite().all():
        pytest.skip("the kernel of this torch is right by itself")


def test_dampened_momentum_begins_with_the_whole_gradient():
    def scenario(build):
        weight = param(4)
        step = build([weight])
        for seed in range(3):
            weight.grad = grad_of(weight, seed)
            step()
        return [weight]

    expected = run(scenario, SGD, fused=False, dampening=0.5)
    torch.testing.assert_close(run(scenario, SGD, None, OptimWrapper, dampening=0.5), expected)


def flags(optimizer):
    return [(group["fused"], group["foreach"]) for group in optimizer.param_groups]


@pytest.mark.parametrize("optimizer", [SGD, Adam, AdamW, Adagrad])
def test_the_fused_kernel_is_the_default(optimizer):
    made = optimizer([param(4)], lr=0.1)
    OptimWrapper(made)
    assert flags(made) == [(True, None)]
    made.add_param_group({"params": [param(2)]})
    assert flags(made) == [(True, None)] * 2


@pytest.mark.parametrize(
    ("optimizer", "chosen"),
    [
        (SGD, {"fused": False}),
        (SGD, {"foreach": True}),
        (SGD, {"foreach": False}),
        (SGD, {"differentiable": True}),
        (AdamW, {"capturable": True}),
        (AdamW, {"fused": False}),
    ],
)
def test_what_the_user_chose_stays(optimizer, chosen):
    made = optimizer([param(4)], lr=0.1, **chosen)
    OptimWrapper(made)
    assert {name: made.param_groups[0][name] for name in chosen} == chosen
    assert flags(made) == [(chosen.get("fused"), chosen.get("foreach"))]


@pytest.mark.parametrize(
    "params",
    [[nn.Parameter(torch.zeros(2, dtype=torch.complex64))], [nn.Parameter(torch.zeros(2, device="meta"))]],
)
def test_there_is_no_fused_kernel_for_every_parameter(params):
    made = SGD(params, lr=0.1)
    OptimWrapper(made)
    assert flags(made) == [(None, None)]


def test_a_subclass_keeps_the_plain_loop_and_other_optimizers_have_no_choice():
    class Own(SGD):
        pass

    made = Own([param(4)], lr=0.1)
    OptimWrapper(made)
    assert flags(made) == [(None, None)]
    weight = param(4)
    wrapper = OptimWrapper(RMSprop([weight], lr=0.1), clip_grad={"max_norm": 1.0})
    wrapper.update_params(weight.sum())
    assert wrapper.updates == 1


def test_the_parts_of_a_hybrid_are_fused_and_guarded_too():
    def train(fused):
        first, second = param(4, 3, 2, 2, channels_last=True), param(4)
        hybrid = HybridOptimizer(
            {"a": SGD([first], fused=fused, **ARGS[SGD]), "b": AdamW([second], fused=fused, **ARGS[AdamW])}
        )
        wrapper = OptimWrapper(hybrid, clip_grad={"max_norm": 1.0})
        for seed in range(3):
            first.grad, second.grad = grad_of(first, seed), grad_of(second, seed)
            wrapper.step()
        return hybrid, [first.detach(), second.detach()]

    hybrid, got = train(None)
    assert flags(hybrid) == [(True, None)] * 2
    torch.testing.assert_close(got, train(False)[1])


def test_parameters_exchanged_in_a_param_group_are_noticed():
    def train(fused):
        first, second = param(4), param(3)
        wrapper = OptimWrapper(SGD([first], fused=fused, **ARGS[SGD]), clip_grad={"max_norm": 0.1})
        for weight in (first, second):
            wrapper.param_groups[0]["params"] = [weight]
            for seed in range(2):
                weight.grad = grad_of(weight, seed)
                wrapper.step()
        return [first.detach(), second.detach()]

    torch.testing.assert_close(train(None), train(False))


def test_the_reason_for_a_plain_step_is_logged_once(caplog):
    caplog.set_level(logging.INFO)
    run(contiguous_gradient, SGD, None, OptimWrapper)
    assert len(caplog.messages) == 1
    assert "SGD steps without its fused kernel where a gradient and its parameter lie" in caplog.text


def test_nothing_is_logged_where_every_step_is_fused(caplog):
    caplog.set_level(logging.INFO)
    run(gradient_now_and_then, SGD, None, OptimWrapper)
    assert caplog.text == ""


def test_a_closure_steps_plainly_whatever_it_does_to_the_gradients():
    def train(fused):
        weight = param(4, 3, 2, 2, channels_last=True)
        wrapper = OptimWrapper(SGD([weight], fused=fused, **ARGS[SGD]))

        def closure():
            weight.grad = grad_of(weight, 0)
            return weight.sum()

        for _ in range(3):
            wrapper.step(closure=closure)
        return weight.detach()

    torch.testing.assert_close(train(None), train(False))


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
@pytest.mark.parametrize("saved", [None, False])
@pytest.mark.parametrize("loaded", [None, False])
def test_a_state_saved_with_one_kernel_goes_on_with_another(optimizer, saved, loaded):
    def train(weight, fused, steps, state=None):
        wrapper = OptimWrapper(optimizer([weight], fused=fused, **ARGS[optimizer]))
        if state is not None:
            wrapper.load_state_dict(state)
        for seed in steps:
            weight.grad = grad_of(weight, seed)
            wrapper.step()
        return wrapper

    weight, expected = param(4), param(4)
    state = train(weight, saved, range(2)).state_dict()
    resumed = train(weight, loaded, range(2, 4), state)
    train(expected, False, range(4))
    torch.testing.assert_close(weight, expected)
    assert flags(resumed.optimizer) == [(loaded is None, None)]


def test_a_state_loaded_past_the_wrapper_is_noticed():
    def train(fused):
        weight = param(4, 3, 2, 2, channels_last=True)
        wrapper = OptimWrapper(SGD([weight], fused=fused, **ARGS[SGD]))
        for seed in range(4):
            if seed == 2:
                state = wrapper.optimizer.state_dict()
                for each in state["state"].values():
                    each["momentum_buffer"] = each["momentum_buffer"].contiguous()
                wrapper.optimizer.load_state_dict(state)
            weight.grad = torch.empty_like(weight).copy_(grad_of(weight, seed))
            wrapper.step()
        return weight.detach()

    torch.testing.assert_close(train(None), train(False))
