"""Clip, unscaling and weighted mean folded into the fused kernel, against the same written out by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adagrad, Adam, AdamW

from optwrap.optim import AmpOptimWrapper, ClipNorm, OptimWrapper
from optwrap.optim.step.fused import FusedKernel
from optwrap.optim.step.loss_scaling import LossScaling
from optwrap.optim.step.one_pass import OnePass

OPTIMIZERS = {
    "sgd": (SGD, {"lr": 0.1}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "dampened": (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    "adam": (Adam, {"lr": 0.01, "weight_decay": 0.01}),
    "adamw": (AdamW, {"lr": 0.01, "amsgrad": True}),
    "adagrad": (Adagrad, {"lr": 0.05}),
}
CLIPS = [None, {"max_norm": 0.3}, {"max_norm": 1e4}, {"max_norm": 0.3, "norm_type": "inf"}, {"max_norm": "inf"}]
SCALED = {"dtype": "float16", "loss_scale": {"init_scale": 1024.0, "growth_interval": 2}}


def make(name, model, fused):
    optimizer, kwargs = OPTIMIZERS[name]
    return optimizer(model.parameters(), fused=fused, **kwargs)


def set_grads(model, seed, times):
    """Give the model gradients, as a backward pass would have left them."""
    generator = torch.Generator().manual_seed(seed)
    for param in model.parameters():
        param.grad = torch.randn(param.shape, generator=generator) * times


def by_hand(model, name, clip_grad, scaler, overflows):
    optimizer = make(name, model, fused=False)
    for seed in range(6):
        scale = scaler.get_scale()
        if scaler.is_enabled():
            scaler.scale(torch.zeros(()))
        set_grads(model, seed, float("inf") if seed in overflows else scale)
        scaler.unscale_(optimizer)
        if clip_grad and clip_grad["max_norm"] != "inf":
            clip_grad_norm_(model.parameters(), clip_grad["max_norm"], float(clip_grad.get("norm_type", 2)))
        scaler.step(optimizer)
        scaler.update()
        yield


def wrapped(model, name, clip_grad, overflows, fused=None):
    """Yield the wrapper after each of six steps; gradients come from `set_grads`."""
    optimizer = make(name, model, fused)
    wrapper = AmpOptimWrapper(optimizer, clip_grad=clip_grad, **SCALED)
    for seed in range(6):
        wrapper.loss_scaler.scale(torch.zeros(()))
        set_grads(model, seed, float("inf") if seed in overflows else wrapper.loss_scaler.get_scale())
        wrapper.step()
        yield wrapper


@pytest.mark.parametrize("overflows", [set(), {0, 3}, {0, 1, 2}])
@pytest.mark.parametrize("clip_grad", CLIPS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scaled_steps_equal_unscale_clip_and_step_by_hand(name, clip_grad, overflows, twins, assert_close):
    model, expected = twins
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    ours, theirs = (
        wrapped(model, name, clip_grad, overflows),
        by_hand(expected, name, clip_grad, scaler, overflows),
    )
    for seed, (wrapper, _) in enumerate(zip(ours, theirs, strict=True)):
        assert_close(model, expected)
        assert wrapper.loss_scaler.get_scale() == scaler.get_scale()
        if seed not in overflows:  # gradients left for the user are the true, clipped ones
            for param, other in zip(model.parameters(), expected.parameters(), strict=True):
                torch.testing.assert_close(param.grad, other.grad, rtol=1e-5, atol=1e-6)
    assert wrapper.skipped_steps == len(overflows)
    assert wrapper.updates == 6 - len(overflows)


@pytest.mark.parametrize("clip_grad", [{"max_norm": 0.3}, {"max_norm": 1e4}])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("weight", [None, 3, 0])
def test_clip_and_weighted_mean_equal_those_before_a_plain_step(weight, name, clip_grad, twins, loss_of, batches):
    norms = []
    for model, fused in zip(twins, (None, False), strict=True):
        wrapper = OptimWrapper(make(name, model, fused), 2, clip_grad)
        for i, batch in enumerate(batches):
            wrapper.update_params(loss_of(model, batch), weight=None if weight is None else weight * (1 + i % 2))
        norms.append(wrapper.last_grad_norm.item())
    torch.testing.assert_close(twins[0].state_dict(), twins[1].state_dict(), rtol=1e-4, atol=1e-5)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_gradients_beyond_the_square_root_of_float32_are_clipped_and_no_overflow():
    weight = nn.Parameter(torch.zeros(4))
    wrapper = AmpOptimWrapper(SGD([weight], lr=1.0), clip_grad={"max_norm": 1.0}, dtype="float16", loss_scale=1024)
    wrapper.update_params((weight * 3e30).sum())
    assert wrapper.skipped_steps == 0
    assert wrapper.last_grad_norm.item() == pytest.approx(6e30, rel=1e-5)
    assert weight.tolist() == pytest.approx([-0.5] * 4, rel=1e-5)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("clip_grad", [None, {"max_norm": 1.0}])
def test_one_bad_gradient_under_loss_scaling_skips_the_step(clip_grad, bad):
    weight = nn.Parameter(torch.ones(3))
    wrapper = AmpOptimWrapper(SGD([weight], lr=1.0, momentum=0.9), clip_grad=clip_grad, **SCALED)
    wrapper.loss_scaler.scale(torch.zeros(()))
    weight.grad = torch.tensor([1.0, bad, 2.0])
    wrapper.step()
    assert (wrapper.updates, wrapper.skipped_steps) == (0, 1)
    assert weight.tolist() == [1.0] * 3
    assert wrapper.loss_scaler.get_scale() == 512


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_without_loss_scaling_a_bad_gradient_does_what_torchs_clip_does(bad):
    def train(fused):
        weight = nn.Parameter(torch.ones(3))
        wrapper = OptimWrapper(SGD([weight], lr=1.0, fused=fused), clip_grad={"max_norm": 1.0})
        weight.grad = torch.tensor([1.0, bad, 2.0])
        wrapper.step()
        return weight.detach()

    torch.testing.assert_close(train(None), train(False), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_parameters_of_other_dtypes(dtype):
    def train(fused):
        weight = nn.Parameter(torch.linspace(-1, 1, 16, dtype=dtype))
        wrapper = OptimWrapper(AdamW([weight], lr=0.1, fused=fused), clip_grad={"max_norm": 1.0})
        for seed in range(3):
            weight.grad = torch.randn(16, generator=torch.Generator().manual_seed(seed)).to(dtype)
            wrapper.step()
        return weight.detach()

    # The plain path rounds clipped gradients to the dtype before the step, the kernel after it.
    rounding = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(train(None), train(False), rtol=rounding, atol=rounding)


@pytest.mark.parametrize("when", ["pre", "post"])
@pytest.mark.parametrize("kind", ["plain", "scaled"])
def test_a_step_hook_sees_finished_gradients(when, kind):
    seen = []
    weight = nn.Parameter(torch.zeros(2))
    optimizer = SGD([weight], lr=1.0)
    getattr(optimizer, f"register_step_{when}_hook")(lambda *_: seen.append(weight.grad.norm().item()))
    wrap = OptimWrapper if kind == "plain" else AmpOptimWrapper
    wrapper = wrap(optimizer, clip_grad={"max_norm": 0.5}, **({} if kind == "plain" else SCALED))
    wrapper.update_params((weight * 4).sum())
    wrapper.update_params((weight * (1.0 if kind == "plain" else 1e38)).sum())
    assert seen == pytest.approx([0.5] * (2 if kind == "plain" else 1), rel=1e-4)  # none in a skipped step


def test_a_strategy_or_an_optimizer_of_ones_own_gets_finished_gradients():
    class Halve:
        def __call__(self, params):
            for param in params:
                param.grad.mul_(0.5)

    class Own(SGD):
        def step(self, closure=None):
            seen.append(self.param_groups[0]["params"][0].grad.clone())
            super().step(closure)

    seen = []
    weight = nn.Parameter(torch.zeros(1))
    wrapper = AmpOptimWrapper(Own([weight], lr=1.0, fused=True), **SCALED)
    wrapper.clip_grad = Halve()
    wrapper.update_params((weight * 4).sum())
    assert seen[0].item() == 2
    assert weight.item() == -2


def test_the_norm_is_measured_where_it_is_due():
    weight = nn.Parameter(torch.zeros(1))
    wrapper = OptimWrapper(SGD([weight], lr=1.0))
    wrapper.norm_is_due = lambda update: update == 2
    norms = []
    for times in (1.0, 2.0, 3.0):
        wrapper.update_params((weight * times).sum())
        norms.append(wrapper.last_grad_norm)
    assert norms[0] is None
    assert norms[1].item() == norms[2].item() == 2


# What runs on CUDA, on tensors of the CPU: none of it reads a tensor.


def decide_on_device(model, name, clip, scaling, seeds_and_times, factor=None):
    kernel = FusedKernel(make(name, model, None))
    one_pass = OnePass(kernel, on_host=False)
    skipped = []
    for seed, times in seeds_and_times:
        if scaling is not None:
            scaling.scaler.scale(torch.zeros(()))
            times *= scaling.scaler.get_scale()
        set_grads(model, seed, times)
        skipped.append(one_pass.step(one_pass.grads(clip, scaling), clip, factor, scaling, measure=False))
    return one_pass, [float(each) for each in skipped]


@pytest.mark.parametrize("max_norm", [0.3, 1e4, float("inf"), None])
@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_the_device_decides_as_the_host_does(name, max_norm, twins, assert_close):
    model, expected = twins
    clip = None if max_norm is None else ClipNorm(max_norm)
    scaling = LossScaling(torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2), None)
    course = [(seed, float("inf") if seed in (0, 3) else 1.0) for seed in range(6)]
    _, skipped = decide_on_device(model, name, clip, scaling, course)
    *_, wrapper = wrapped(expected, name, None if max_norm is None else {"max_norm": max_norm}, {0, 3})
    assert skipped == [1, 0, 0, 1, 0, 0]
    assert_close(model, expected)
    assert scaling.scaler.get_scale() == wrapper.loss_scaler.get_scale()


@pytest.mark.parametrize("max_norm", [0.3, 1e4])
@pytest.mark.parametrize("factor", [None, 0.5, 0.0])
def test_the_device_folds_clip_and_weighted_mean(factor, max_norm, twins, assert_close):
    model, expected = twins
    tensor = None if factor is None else torch.tensor(factor)
    one_pass, _ = decide_on_device(model, "momentum", ClipNorm(max_norm), None, [(0, 1.0), (1, 1.0)], tensor)
    optimizer = make("momentum", expected, False)
    for seed in range(2):
        set_grads(expected, seed, 1.0 if factor is None else factor)
        norm = clip_grad_norm_(expected.parameters(), max_norm)
        optimizer.step()
    assert_close(model, expected)
    assert one_pass.norm.item() == pytest.approx(norm.item(), rel=1e-5)


def test_copies_of_a_wrapper_train_apart(twins, loss_of, batches, assert_close):
    model, expected = twins
    pair = copy.deepcopy((model, OptimWrapper(make("momentum", model, None), clip_grad={"max_norm": 0.3})))
    for net, wrapper in (
        pair,
        (expected, OptimWrapper(make("momentum", expected, None), clip_grad={"max_norm": 0.3})),
    ):
        for batch in batches:
            wrapper.update_params(loss_of(net, batch))
    assert_close(pair[0], expected)
