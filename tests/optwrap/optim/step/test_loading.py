"""Loading optimizer state: by name, whole, and in the optimizer's own dtypes."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, Optimizer, SparseAdam

from optwrap.errors import ConfigError
from optwrap.optim import (
    OptimWrapper,
    build_optim_wrapper,
    load_named_state_dict,
    named_state_dict,
)

INPUT = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
HYBRID = {
    "constructor": "optwrap.optim.HybridOptimWrapperConstructor",
    "hidden_optimizer": {"_target_": "torch.optim.Muon", "lr": 0.02},
    "head": ["head"],
}
ALWAYS = {"custom_keys": {"q": {"lr_mult": 0.5}}}


def attention(*names):
    """Square layers defined in this order, all used in another one: what they compute does not depend on it."""
    torch.manual_seed(0)
    weights = {name: torch.randn(4, 4) for name in ("head", "k", "q")}
    model = nn.ModuleDict(OrderedDict((name, nn.Linear(4, 4)) for name in names))
    with torch.no_grad():
        for name, layer in model.items():
            layer.weight.copy_(weights[name])
            layer.bias.fill_(1.0)
    return model


def build(model, optimizer="Adam", lr=0.1, cfg=None, **kwargs):
    return build_optim_wrapper(
        model, {"optimizer": {"_target_": f"torch.optim.{optimizer}", "lr": lr, **kwargs}, **(cfg or {})}
    )


def train(model, optim_wrapper, steps=1):
    for _ in range(steps):
        loss = model["head"](model["k"](INPUT).tanh() * model["q"](INPUT)).square().mean()
        optim_wrapper.update_params(loss)


def assert_same(first, second):
    """Two nests of tensors and others are equal."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert_same(value, second[name])
    elif isinstance(first, list):
        for value, other in zip(first, second, strict=True):
            assert_same(value, other)
    else:
        assert first == second


def weights_of(model):
    return {name: param.detach().clone() for name, param in model.named_parameters()}


@pytest.mark.parametrize(
    "cfg",
    [{}, {"paramwise_cfg": ALWAYS}, HYBRID, {**HYBRID, "paramwise_cfg": ALWAYS}, {"accumulative_counts": 3}],
    ids=["plain", "groups", "hybrid", "hybrid_groups", "in_a_window"],
)
def test_state_follows_the_names_where_the_model_defines_them_in_another_order(cfg):
    model = attention("q", "k", "head")
    whole = build(model, cfg=cfg)
    train(model, whole, 4)
    state, weights = copy.deepcopy(whole.state_dict()), weights_of(model)
    saved = copy.deepcopy(state)
    train(model, whole, 2)
    other = attention("k", "head", "q")
    other.load_state_dict(weights)
    resumed = build(other, cfg=cfg)
    resumed.load_state_dict(state)
    names = {name: param for group in resumed.param_groups for name, param in zip(*_names(group), strict=True)}
    assert all(param is names[name] for name, param in other.named_parameters())
    train(other, resumed, 2)
    torch.testing.assert_close(weights_of(other), weights_of(model))
    assert_same(state, saved)


def _names(group):
    return group["param_names"], group["params"]


def test_a_group_found_by_its_names_keeps_its_hyperparameters():
    first = build(attention("q", "k", "head"), cfg={"paramwise_cfg": ALWAYS})
    second = build(attention("k", "q", "head"), lr=1.0, cfg={"paramwise_cfg": ALWAYS})
    assert [group["param_names"][0] for group in second.param_groups] == ["k.weight", "q.weight"]
    second.load_state_dict(first.state_dict())
    assert second.get_lr() == {"lr": [0.1, 0.05]}


def test_without_names_positions_decide_as_in_torch():
    model, other = attention("q", "k"), attention("k", "q")
    first = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    first.update_params(model["q"](model["k"](INPUT)).sum())
    second = OptimWrapper(torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9))
    second.load_state_dict(first.state_dict())
    moved = second.optimizer.state[other["k"].weight]["momentum_buffer"]
    assert torch.equal(moved, first.optimizer.state[model["q"].weight]["momentum_buffer"])


@pytest.mark.parametrize(
    ("names", "cfg", "message"),
    [
        (
            ("q", "k", "head"),
            {"paramwise_cfg": ALWAYS},
            r"'q\.weight'.* in other param groups.*load_named_state_dict",
        ),
        (("q", "head"), {}, r"new here are none, left over 'k\.bias', 'k\.weight'"),
    ],
)
def test_a_state_of_other_names_or_groups_is_an_error_and_changes_nothing(names, cfg, message):
    model = attention("q", "k", "head")
    first = build(model)
    train(model, first)
    second = build(attention(*names), cfg=cfg)
    before = copy.deepcopy(second.state_dict())
    with pytest.raises(ValueError, match=message):
        second.load_state_dict(first.state_dict())
    assert second.state_dict() == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("SGD", "Adam"),
        ("Adam", "SGD"),
        ("Adamax", "Adam"),
        ("Adam", "Adamax"),
        ("RMSprop", "Adagrad"),
        ("Adam", "Adadelta"),
        ("Rprop", "Adam"),
        ("ASGD", "NAdam"),
    ],
)
def test_a_state_of_another_class_is_an_error_and_changes_nothing(before, after):
    model, other = attention("q", "k", "head"), attention("q", "k", "head")
    first, second = build(model, before), build(other, after)
    train(model, first)
    train(other, second)
    expected = copy.deepcopy(second.state_dict())
    with pytest.raises(ConfigError, match=rf"not one of {after}: .*load_named_state_dict"):
        second.load_state_dict(first.state_dict())
    assert_same(second.state_dict(), expected)
    train(other, second)  # it goes on


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize(
    ("optimizer", "off", "on", "zeros"),
    [
        ("Adam", {}, {"amsgrad": True}, "max_exp_avg_sq"),
        ("AdamW", {}, {"amsgrad": True}, "max_exp_avg_sq"),
        ("RMSprop", {}, {"momentum": 0.9}, "momentum_buffer"),
        ("RMSprop", {}, {"centered": True}, "grad_avg"),
        ("SGD", {"momentum": 0.0}, {"momentum": 0.9}, None),
    ],
)
def test_an_option_switched_on_starts_with_what_its_state_lacks(optimizer, off, on, zeros, fused):
    own = {} if fused is None or optimizer == "RMSprop" else {"fused": fused}
    model = attention("q", "k", "head")
    first = build(model, optimizer, **own, **off)
    train(model, first, 2)
    other, by_hand = copy.deepcopy(model), copy.deepcopy(model)
    second = build(other, optimizer, **own, **on)
    load_named_state_dict(second, named_state_dict(first))
    train(other, second, 2)

    plain = getattr(torch.optim, optimizer)(by_hand.parameters(), lr=0.1, **on)
    for mine, its in zip(by_hand.parameters(), model.parameters(), strict=True):
        state = {name: value.clone() for name, value in first.optimizer.state[its].items() if value is not None}
        plain.state[mine] = state | ({zeros: torch.zeros_like(mine)} if zeros else {})
    for _ in range(2):
        plain.zero_grad()
        by_hand["head"](by_hand["k"](INPUT).tanh() * by_hand["q"](INPUT)).square().mean().backward()
        plain.step()
    torch.testing.assert_close(weights_of(other), weights_of(by_hand))


CLASSES = [
    each
    for each in vars(torch.optim).values()
    if isinstance(each, type) and issubclass(each, Optimizer) and each not in (Optimizer, LBFGS, SparseAdam)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_state_of_an_older_version_saved_under_a_schedule_loads(kind):
    model = nn.Linear(4, 4, bias=False)
    first = OptimWrapper(kind(model.parameters(), lr=0.1))
    first.update_params(model(INPUT).sum())
    weight = model.weight.detach().clone()
    results = []
    for lacking in (None, *(name for name in first.optimizer.defaults if name != "lr")):
        state = copy.deepcopy(first.state_dict())
        state["param_groups"][0].update(initial_lr=0.1, max_lr=0.2)
        state["param_groups"][0].pop(lacking, None)
        second = OptimWrapper(kind(model.parameters(), lr=0.1))
        second.load_state_dict(state)
        with torch.no_grad():
            model.weight.copy_(weight)
        second.update_params(model(INPUT).sum())
        results.append(model.weight.detach().clone())
    assert all(torch.equal(result, results[0]) for result in results)


class Master(Optimizer):
    """Keeps float32 weights beside bfloat16 ones, and counts in an int64 tensor."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state[param]
                if not state:
                    state.update(master=param.float(), seen=torch.tensor(2**40 + 1))
                state["master"] -= group["lr"] * param.grad.float()
                state["seen"] += 1
                param.copy_(state["master"])


def test_state_keeps_the_dtype_that_its_optimizer_gives_it():
    param = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    first = OptimWrapper(Master([param], lr=1e-4))
    first.update_params((param.float() * 3).sum())
    second = OptimWrapper(Master([nn.Parameter(param.detach().clone())], lr=1.0))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    (state,) = second.optimizer.state.values()
    torch.testing.assert_close(state["master"], torch.full((2,), 1 - 3e-4), rtol=0, atol=0)
    assert state["seen"].dtype == torch.int64
    assert state["seen"].item() == 2**40 + 2


def test_state_of_a_model_in_another_dtype_becomes_that_of_its_weights():
    param = nn.Parameter(torch.ones(2))
    first = OptimWrapper(torch.optim.AdamW([param], lr=1e-4))
    first.update_params((param * 3).sum())
    half = nn.Parameter(param.detach().bfloat16())
    second = OptimWrapper(torch.optim.AdamW([half], lr=1e-4))
    second.load_state_dict(first.state_dict())
    second.update_params((half * 3).sum())
    assert second.optimizer.state[half]["exp_avg"].dtype == torch.bfloat16
    assert second.optimizer.state[half]["step"].dtype == torch.float32


def test_learning_what_a_state_holds_calls_no_hook_and_draws_no_number():
    model = attention("q", "k", "head")
    first = build(model)
    train(model, first)
    second = build(model)
    calls = []
    second.optimizer.register_step_pre_hook(lambda *args: calls.append(args))
    generator = torch.get_rng_state()
    second.load_state_dict(first.state_dict())
    assert calls == []
    assert torch.equal(torch.get_rng_state(), generator)
