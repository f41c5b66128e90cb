"""Every example of the OptimWrapper tutorial, its config spelled Hydra's way, with the numbers it prints."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD

from optwrap.optim import (
    AmpOptimWrapper,
    Assignment,
    DefaultOptimWrapperConstructor,
    OptimWrapper,
    OptimWrapperDict,
    build_optim_wrapper,
    walk,
)

SGD_CFG = {"_target_": "torch.optim.SGD", "lr": 0.01, "weight_decay": 0.0001}


@pytest.fixture
def batches():
    return [(torch.zeros(10, 1, 1), torch.ones(10, 1, 1))] * 10


def by_name(optim_wrapper, option):
    return {name: group[option] for group in optim_wrapper.param_groups for name in group["param_names"]}


def train_by_hand(model, batches, counts=1):
    optimizer = SGD(model.parameters(), lr=0.01)
    for i, (inputs, target) in enumerate(batches, start=1):
        (F.l1_loss(model(inputs), target) / counts).backward()
        if i % counts == 0:
            optimizer.step()
            optimizer.zero_grad()


def two_equal_models():
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    second.load_state_dict(first.state_dict())
    return first, second


def assert_equal_params(first, second):
    for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_1_single_precision(batches):
    model, expected = two_equal_models()
    optim_wrapper = OptimWrapper(optimizer=SGD(model.parameters(), lr=0.01))
    for inputs, target in batches:
        optim_wrapper.update_params(F.l1_loss(model(inputs), target))
    train_by_hand(expected, batches)
    assert_equal_params(model, expected)


def test_2_mixed_precision(batches):
    model, expected = two_equal_models()
    optim_wrapper = AmpOptimWrapper(optimizer=SGD(model.parameters(), lr=0.01))
    for inputs, target in batches:
        with optim_wrapper.optim_context(model):
            output = model(inputs)
        optim_wrapper.update_params(F.l1_loss(output, target))
    optimizer = SGD(expected.parameters(), lr=0.01)
    for inputs, target in batches:
        with torch.autocast("cpu"):
            output = expected(inputs)
        F.l1_loss(output, target).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert output.dtype == torch.bfloat16
    assert_equal_params(model, expected)


def test_3_accumulation(batches):
    model, expected = two_equal_models()
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.01), accumulative_counts=2)
    for inputs, target in batches:
        with optim_wrapper.optim_context(model):
            loss = F.l1_loss(model(inputs).float(), target)
        optim_wrapper.update_params(loss)
    optimizer = SGD(expected.parameters(), lr=0.01)
    for i, (inputs, target) in enumerate(batches, start=1):
        with torch.autocast("cpu"):
            loss = F.l1_loss(expected(inputs).float(), target)
        (loss / 2).backward()
        if i % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
    assert optim_wrapper.updates == 5
    assert_equal_params(model, expected)


def test_fine_grained_interface(batches):
    model, expected = two_equal_models()
    optimizer = SGD(model.parameters(), lr=0.01)
    optim_wrapper = OptimWrapper(optimizer)
    for i, (inputs, target) in enumerate(batches):
        optimizer.zero_grad()
        with optim_wrapper.optim_context(model):
            output = model(inputs)
        optim_wrapper.backward(F.l1_loss(output, target))
        if i % 2 == 0:
            optim_wrapper.step()
            optim_wrapper.zero_grad()
    plain = SGD(expected.parameters(), lr=0.01)
    for i, (inputs, target) in enumerate(batches):
        plain.zero_grad()
        F.l1_loss(expected(inputs), target).backward()
        if i % 2 == 0:
            plain.step()
    assert_equal_params(model, expected)


@pytest.mark.parametrize("clip_grad", [{"max_norm": 1}, {"clip_value": 0.2}])
def test_clip_grad_is_accepted(clip_grad, batches):
    model = nn.Linear(1, 1)
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.01), clip_grad=clip_grad)
    optim_wrapper.backward(F.l1_loss(model(batches[0][0]), batches[0][1]) * 100)
    optim_wrapper.step()
    if "max_norm" in clip_grad:
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        assert norm == pytest.approx(1, rel=1e-4)
    else:
        assert max(p.grad.abs().max() for p in model.parameters()) <= 0.2


def test_get_lr_and_momentum():
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=0.01)
    optim_wrapper = OptimWrapper(optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert optimizer.param_groups[0]["momentum"] == 0
    assert optim_wrapper.get_lr() == {"lr": [0.01]}
    assert optim_wrapper.get_momentum() == {"momentum": [0]}


def test_state_dicts():
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=0.01)
    plain_state = OptimWrapper(optimizer).state_dict()
    # On a CPU autocast's default is bfloat16, which needs no loss scaling; float16 shows the reference's.
    amp_state = AmpOptimWrapper(optimizer, dtype="float16").state_dict()
    assert plain_state == optimizer.state_dict()
    group = plain_state["param_groups"][0]
    shown = {"lr": 0.01, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False, "params": [0, 1]}
    assert plain_state["state"] == {}
    assert {name: group[name] for name in shown} == shown
    assert amp_state["loss_scaler"] == {
        "scale": 65536.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 2000,
        "_growth_tracker": 0,
    }
    assert {name: value for name, value in amp_state.items() if name != "loss_scaler"} == plain_state
    AmpOptimWrapper(optimizer, dtype="float16").load_state_dict(amp_state)
    OptimWrapper(optimizer).load_state_dict(plain_state)


def test_multiple_optimizers():
    gen, disc = nn.Linear(1, 1), nn.Linear(1, 1)
    optim_dict = OptimWrapperDict(
        gen=OptimWrapper(SGD(gen.parameters(), lr=0.01)), disc=OptimWrapper(SGD(disc.parameters(), lr=0.01))
    )
    assert optim_dict.get_lr() == {"gen.lr": [0.01], "disc.lr": [0.01]}
    assert optim_dict.get_momentum() == {"gen.momentum": [0], "disc.momentum": [0]}


@pytest.mark.parametrize(
    ("extra", "kind", "counts"),
    [
        ({"_target_": "optwrap.optim.OptimWrapper"}, OptimWrapper, 1),
        ({}, OptimWrapper, 1),
        ({"_target_": "optwrap.optim.AmpOptimWrapper", "accumulative_counts": 2}, AmpOptimWrapper, 2),
    ],
)
def test_wrapper_configs(extra, kind, counts):
    optimizer = {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001}
    optim_wrapper = build_optim_wrapper(nn.Linear(1, 1), {"optimizer": optimizer, **extra})
    assert type(optim_wrapper) is kind
    assert optim_wrapper.accumulative_counts == counts
    group = optim_wrapper.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.9, 0.0001)


def test_norm_decay_mult(toy_model):
    cfg = {"optimizer": SGD_CFG, "paramwise_cfg": {"norm_decay_mult": 0}}
    optim_wrapper = build_optim_wrapper(toy_model, cfg)
    decay = by_name(optim_wrapper, "weight_decay")
    norm = {"head.bn.weight", "head.bn.bias"}
    assert decay == {name: 0.0 if name in norm else 0.0001 for name, _ in toy_model.named_parameters()}
    assert set(by_name(optim_wrapper, "lr").values()) == {0.01}


def test_custom_keys(toy_model):
    custom_keys = {
        "backbone.layer0": {"lr_mult": 0, "decay_mult": 0},
        "backbone": {"lr_mult": 1},
        "head": {"lr_mult": 0.1},
    }
    cfg = {"optimizer": SGD_CFG, "paramwise_cfg": {"custom_keys": custom_keys}}
    optim_wrapper = build_optim_wrapper(toy_model, cfg)
    assert by_name(optim_wrapper, "lr") == {
        "backbone.layer0.weight": 0.0,
        "backbone.layer0.bias": 0.0,
        "backbone.layer1.weight": 0.01,
        "backbone.layer1.bias": 0.01,
        "head.linear.weight": 0.001,
        "head.linear.bias": 0.001,
        "head.bn.weight": 0.001,
        "head.bn.bias": 0.001,
    }
    decay = by_name(optim_wrapper, "weight_decay")
    assert {name for name, value in decay.items() if value == 0} == {
        "backbone.layer0.weight",
        "backbone.layer0.bias",
    }
    assert set(decay.values()) == {0.0, 0.0001}


class LayerDecay(DefaultOptimWrapperConstructor):
    """The reference's constructor of one's own: each level of nesting multiplies the learning rate."""

    def assign(self, model, base):
        factor = self.paramwise_cfg.get("decay_factor", 0.5)
        return [
            Assignment(p.name, p.tensor, {"lr": base["lr"] * factor ** p.name.count(".")}, "depth")
            for p in walk(model)
        ]


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleDict({"linear": nn.Linear(1, 1)})
        self.linear = nn.Linear(1, 1)


@pytest.mark.parametrize("constructor", [LayerDecay, "optwrap.optim.LayerDecayOptimWrapperConstructor"])
def test_layer_decay_by_a_constructor_of_ones_own_and_by_ours(constructor):
    cfg = {"optimizer": SGD_CFG, "paramwise_cfg": {"decay_factor": 0.5}, "constructor": constructor}
    optim_wrapper = build_optim_wrapper(Nested(), cfg)
    assert by_name(optim_wrapper, "lr") == {
        "layer.linear.weight": 0.0025,
        "layer.linear.bias": 0.0025,
        "linear.weight": 0.005,
        "linear.bias": 0.005,
    }
