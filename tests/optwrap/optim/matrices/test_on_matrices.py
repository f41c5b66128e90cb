"""Optimizers on the matrices that parameters are made of, beside the same optimizer by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW, Muon

from optwrap.optim import (
    HybridOptimizer,
    OptimWrapper,
    build_optim_wrapper,
    build_schedule,
    in_passes,
    load_named_state_dict,
    named_state_dict,
)
from optwrap.optim.assignment.hidden.cut import Cut
from optwrap.optim.matrices.on_matrices import OnMatrices, on_matrices

ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.003, "foreach": False}
MUON = {"_target_": "torch.optim.Muon", "lr": 0.02, "weight_decay": 0.1}
HYBRID = {
    "constructor": "optwrap.optim.HybridOptimWrapperConstructor",
    "optimizer": ADAMW,
    "hidden_optimizer": MUON,
    "split_fused": ["qkv"],
}


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 8, 4) / 4)

    def forward(self, x):
        return torch.einsum("bi,eoi->bo", x, self.up)


class Net(nn.Module):
    """One of each kind: convolutions, experts, a fused projection, a plain matrix."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.experts, self.qkv = Experts(), nn.Linear(8, 12)
        self.plain, self.head = nn.Linear(12, 6), nn.Linear(6, 5)

    def forward(self, images):
        x = self.conv(self.stem(images).relu()).relu().mean((2, 3))
        return self.head(self.plain(self.qkv(self.experts(x)).tanh()))


HIDDEN = ("conv.weight", "experts.up", "qkv.weight", "plain.weight")


def matrices(name, tensor):
    """Cut by hand."""
    if name == "experts.up":
        return list(tensor)
    return list(tensor.split(4)) if name == "qkv.weight" else [tensor.flatten(1)]


class ByHand:
    """Muon on copies of the matrices of a network, written back after each step, and AdamW on the rest."""

    def __init__(self, model, kind=Muon, **kwargs):
        self.params = dict(model.named_parameters())
        self.hidden = [name for name in self.params if name in HIDDEN]
        self.copies = {
            name: [nn.Parameter(each.clone()) for each in matrices(name, self.params[name].detach())]
            for name in self.hidden
        }
        flat = [each for name in self.hidden for each in self.copies[name]]
        self.optimizer = kind(flat, **(kwargs or {"lr": 0.02, "weight_decay": 0.1}))
        rest = [param for name, param in self.params.items() if name not in HIDDEN]
        self.rest = AdamW(rest, lr=0.003, foreach=False)

    def step(self):
        for name in self.hidden:
            for copied, grad in zip(self.copies[name], matrices(name, self.params[name].grad), strict=True):
                copied.grad = grad.clone()
        self.optimizer.step()
        self.rest.step()
        with torch.no_grad():
            for name in self.hidden:
                shape = torch.empty(self.params[name].shape)
                for part, copied in zip(matrices(name, shape), self.copies[name], strict=True):
                    part.copy_(copied)
                self.params[name].copy_(shape)
        for param in self.params.values():
            param.grad = None


def loss_of(model, batch, layout=torch.contiguous_format):
    images, target = batch
    return nn.functional.cross_entropy(model(images.to(memory_format=layout)), target)


@pytest.fixture
def data():
    return [(torch.randn(6, 3, 6, 6), torch.randint(5, (6,))) for _ in range(6)]


def train(model, wrapper, data, layout=torch.contiguous_format):
    for batch in data:
        with wrapper.optim_context(model):
            loss = loss_of(model, batch, layout)
        wrapper.update_params(loss)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("counts", [1, 2])
def test_training_equals_flattening_by_hand(layout, counts, data):
    model = Net().to(memory_format=layout)
    expected = copy.deepcopy(model)
    wrapper = build_optim_wrapper(model, {**HYBRID, "accumulative_counts": counts, "clip_grad": {"max_norm": 0.1}})
    train(model, wrapper, data, layout)
    by_hand = ByHand(expected)
    for i, batch in enumerate(data):
        (loss_of(expected, batch, layout) / counts).backward()
        if (i + 1) % counts == 0:
            clip_grad_norm_(expected.parameters(), 0.1)
            by_hand.step()
    torch.testing.assert_close(dict(model.named_parameters()), by_hand.params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_step_equals_one_by_hand_to_the_bit(layout, data):
    model = Net().to(memory_format=layout)
    expected = copy.deepcopy(model)
    wrapper, by_hand = build_optim_wrapper(model, HYBRID), ByHand(expected)
    for batch in data[:3]:
        loss_of(expected, batch).backward()
        for param, other in zip(model.parameters(), expected.parameters(), strict=True):
            param.grad = other.grad.clone(memory_format=torch.preserve_format)
        wrapper.step()
        by_hand.step()
        for name in HIDDEN:
            assert torch.equal(model.get_parameter(name), expected.get_parameter(name)), name


def cuts_of(model):
    return {
        model.conv.weight: Cut(),
        model.experts.up: Cut(stacked=True),
        model.qkv.weight: Cut(sizes=(4, 4, 4)),
        model.plain.weight: Cut(),
    }


def on(model, build):
    cuts = cuts_of(model)
    return on_matrices(build, [{"params": list(cuts), "param_names": list(HIDDEN)}], cuts)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (SGD, {"lr": 0.1, "momentum": 0.9}),
        (AdamW, {"lr": 0.01}),
        (torch.optim.Adafactor, {"lr": 0.01}),
        (torch.optim.RMSprop, {"lr": 0.01}),
    ],
)
def test_any_optimizer_steps_the_matrices(kind, options, data):
    model = Net()
    expected = copy.deepcopy(model)
    optimizer = on(model, lambda groups: kind(groups, **options))
    by_hand = ByHand(expected, kind, **options)
    for batch in data[:3]:
        loss_of(expected, batch).backward()
        for param, other in zip(model.parameters(), expected.parameters(), strict=True):
            param.grad = None if other.grad is None else other.grad.clone()
        optimizer.step()
        by_hand.step()
    for name in HIDDEN:
        torch.testing.assert_close(model.get_parameter(name), expected.get_parameter(name), rtol=1e-5, atol=1e-6)
    again = copy.deepcopy(model)
    other = on(again, lambda groups: kind(groups, **options))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for net, each in ((model, optimizer), (again, other)):
        net.zero_grad()
        loss_of(net, data[4]).backward()
        each.step()
    torch.testing.assert_close(dict(model.named_parameters()), dict(again.named_parameters()), rtol=0, atol=0)


def test_where_all_are_matrices_the_optimizer_is_the_plain_one():
    layer = nn.Linear(4, 4)
    assert type(on_matrices(Muon, [{"params": [layer.weight]}], {layer.weight: Cut()})) is Muon


def test_state_and_groups_are_those_of_parameters(data):
    model = Net()
    wrapper = build_optim_wrapper(model, HYBRID)
    train(model, wrapper, data[:2])
    muon = wrapper.optimizer.optimizers["hidden"]
    assert isinstance(muon, OnMatrices)
    assert [name for group in muon.param_groups for name in group["param_names"]] == list(HIDDEN)
    assert {tuple(muon.state[param]["momentum_buffer"].shape) for param in muon.state} == {
        tuple(model.get_parameter(name).shape) for name in HIDDEN
    }
    state = named_state_dict(wrapper)
    assert state["optimizers"]["conv.weight"] == "Muon"
    assert state["state"]["conv.weight"]["momentum_buffer"].shape == model.conv.weight.shape


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("named", [True, False])
def test_a_run_resumes_to_the_bit(layout, named, data, assert_equal):
    model = Net().to(memory_format=layout)
    wrapper = build_optim_wrapper(model, HYBRID)
    train(model, wrapper, data[:3], layout)
    other = copy.deepcopy(model)
    resumed = build_optim_wrapper(other, HYBRID)
    state = copy.deepcopy(named_state_dict(wrapper) if named else wrapper.state_dict())
    if named:
        assert not load_named_state_dict(resumed, state)
    else:
        resumed.load_state_dict(state)
    train(model, wrapper, data[3:], layout)
    train(other, resumed, data[3:], layout)
    assert_equal(other, model)


@pytest.mark.parametrize("change", [{"split_fused": None}, {"hidden_convolutions": False}])
def test_momentum_follows_the_name_where_a_run_resumes_with_other_matrices(change, data):
    model = Net()
    first = build_optim_wrapper(model, HYBRID)
    train(model, first, data[:2])
    second = build_optim_wrapper(model, {**HYBRID, **change})
    unmatched = load_named_state_dict(second, named_state_dict(first))
    assert unmatched.new == (() if "split_fused" in change else ("conv.weight",))
    kept = named_state_dict(second)["state"]["qkv.weight"]["momentum_buffer"]
    assert torch.equal(kept, named_state_dict(first)["state"]["qkv.weight"]["momentum_buffer"])
    train(model, second, data[2:4])


def test_a_copy_goes_on_alike(data, assert_equal):
    model = Net()
    wrapper = build_optim_wrapper(model, HYBRID)
    train(model, wrapper, data[:2])
    other, copied = copy.deepcopy((model, wrapper))
    train(model, wrapper, data[2:])
    train(other, copied, data[2:])
    assert_equal(other, model)
    assert not torch.equal(model.conv.weight, Net().conv.weight)


def test_a_parameter_that_moved_in_memory_is_stepped_where_it_is(data):
    model = Net()
    wrapper = build_optim_wrapper(model, HYBRID)
    train(model, wrapper, data[:1])
    expected, other = copy.deepcopy((model, wrapper))
    train(expected, other, data[1:3])
    model.to(memory_format=torch.channels_last)
    model.experts.up.data = model.experts.up.data.clone()
    train(model, wrapper, data[1:3])
    torch.testing.assert_close(
        dict(model.named_parameters()), dict(expected.named_parameters()), rtol=1e-3, atol=1e-4
    )


def test_without_a_gradient_nothing_moves(data):
    model = Net()
    wrapper = build_optim_wrapper(model, HYBRID)
    model.conv.weight.requires_grad_(False)
    before = model.conv.weight.clone()
    train(model, wrapper, data[:2])
    assert torch.equal(model.conv.weight, before)
    assert model.conv.weight not in wrapper.optimizer.optimizers["hidden"].state


def test_a_skipped_step_moves_nothing(data, assert_equal):
    model = Net()
    wrapper = build_optim_wrapper(
        model, {**HYBRID, "_target_": "optwrap.optim.AmpOptimWrapper", "dtype": "float16"}
    )
    before = copy.deepcopy(model)
    wrapper.update_params(loss_of(model, data[0]) * 1e38)
    assert wrapper.skipped_steps == 1
    assert_equal(model, before)


def test_a_schedule_moves_the_lr_of_the_matrices(data):
    model = Net()
    wrapper = build_optim_wrapper(model, HYBRID)
    schedule = build_schedule(wrapper, {"lr": {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 1}}, 2)
    expected = copy.deepcopy(model)
    train(model, wrapper, data[:1])
    schedule.step()
    by_hand = ByHand(expected)
    for batch, factor in ((data[0], 1.0), (data[1], 0.1)):
        for optimizer, lr in ((by_hand.optimizer, 0.02), (by_hand.rest, 0.003)):
            optimizer.param_groups[0]["lr"] = lr * factor
        loss_of(expected, batch).backward()
        by_hand.step()
    train(model, wrapper, data[1:2])
    torch.testing.assert_close(model.conv.weight, expected.conv.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_step_compiles(data):
    model = Net()
    wrapper = build_optim_wrapper(model, HYBRID)
    expected, other = copy.deepcopy((model, wrapper))
    wrapper.compile_step(backend="eager")
    train(model, wrapper, data[:3])
    train(expected, other, data[:3])
    for param, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(param, other, rtol=1e-2, atol=1e-3)  # Muon computes in bfloat16


def test_sharpness_aware_steps_are_those_by_hand(data):
    model = Net()
    other = copy.deepcopy(model)
    wrapper = build_optim_wrapper(model, {**HYBRID, "sam": {"rho": 0.1}})
    wrapper.initialize_count_status(model, 0, len(data))
    by_hand = ByHand(other)
    params = list(other.parameters())
    for batch in data:

        def step(batch=batch):
            with wrapper.optim_context(model):
                loss = loss_of(model, batch)
            wrapper.update_params(loss)
            return {}

        in_passes(model, wrapper, step)
        loss_of(other, batch).backward()
        norm = torch.cat([param.grad.flatten() for param in params]).norm()
        before = [param.detach().clone() for param in params]
        with torch.no_grad():
            for param in params:
                param += 0.1 * param.grad / norm
                param.grad = None
        loss_of(other, batch).backward()
        with torch.no_grad():
            for param, value in zip(params, before, strict=True):
                param.copy_(value)
        by_hand.step()
    for param, expected in zip(model.parameters(), params, strict=True):
        torch.testing.assert_close(param, expected, rtol=1e-4, atol=1e-5)


def test_averages_go_beside_it(data):
    model = Net()
    cfg = {**HYBRID, "averaging": {"kind": "ema", "decay": 0.5}}
    wrapper = build_optim_wrapper(model, cfg)
    wrapper.initialize_count_status(model, 0, 3)
    train(model, wrapper, data[:3])
    trained = model.conv.weight.detach().clone()
    with wrapper.evaluation_weights():
        assert not torch.equal(model.conv.weight, trained)
    assert torch.equal(model.conv.weight, trained)


class TwoWeights(SGD):
    """Evaluates twice the weights that it trains."""

    def train(self):
        self.scale(0.5)

    def eval(self):
        self.scale(2.0)

    def scale(self, factor):
        if self.state:
            for group in self.param_groups:
                for param in group["params"]:
                    assert param.ndim == 2
                    param.mul_(factor)


def test_an_optimizer_that_switches_weights_switches_those_of_parameters(data):
    model = Net()
    optimizer = on(model, lambda groups: TwoWeights(groups, lr=0.1, momentum=0.9))
    rest = [named for named in model.named_parameters() if named[0] not in HIDDEN]
    wrapper = OptimWrapper(HybridOptimizer({"hidden": optimizer, "rest": SGD(rest, lr=0.1)}))
    train(model, wrapper, data[:1])
    trained = model.conv.weight.detach().clone()
    with wrapper.evaluation_weights():
        assert torch.equal(model.conv.weight, 2 * trained)
    assert torch.equal(model.conv.weight, trained)


def test_it_takes_no_further_group():
    model = Net()
    optimizer = on(model, Muon)
    with pytest.raises(NotImplementedError, match="Build a new"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(4, 4))]})
