"""Torch's own methods without its compiler do what they do with it; what others wrote is called as it is."""

import copy
import functools
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from optwrap.optim import OptimWrapper, build_optim_wrapper
from optwrap.optim.step.own_step import bare, built_bare, step_bare

OPTIMIZERS = [
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (SGD, {"lr": 0.1}),
    (Adam, {"lr": 0.1, "amsgrad": True}),
    (AdamW, {"lr": 0.1}),
    (Adagrad, {"lr": 0.1}),
]


@pytest.fixture
def without_compiler(monkeypatch):
    """As in a process that has not loaded it; a step that would load it is an error."""
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # makes `import` an error
    monkeypatch.delitem(sys.modules, "torch._dynamo")

    class Refuses:
        def find_spec(self, name, path, target=None):
            assert name != "torch._dynamo"

    monkeypatch.setattr(sys, "meta_path", [Refuses(), *sys.meta_path])


def train(step, optimizer, weight):
    for number in range(4):
        weight.grad = torch.full_like(weight, number + 1.0)
        step(optimizer)


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS)
@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_those_of_torch(kind, options, fused, without_compiler, monkeypatch):
    ours, theirs = (nn.Parameter(torch.arange(1.0, 5.0)) for _ in range(2))
    with built_bare():
        optimizer = kind([ours], **options, fused=fused)
    train(step_bare, optimizer, ours)
    state = bare(optimizer, "state_dict")()
    monkeypatch.undo()
    plain = kind([theirs], **options, fused=fused)
    train(lambda each: each.step(), plain, theirs)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(state, plain.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS)
def test_a_wrapper_trains_saves_and_loads_without_the_compiler(kind, options, without_compiler):
    model = nn.Linear(3, 2)
    cfg = {"optimizer": {"_target_": f"torch.optim.{kind.__name__}", **options}, "clip_grad": {"max_norm": 1.0}}
    wrapper = build_optim_wrapper(model, cfg)
    for _ in range(2):
        wrapper.update_params(model(torch.ones(4, 3)).square().sum())
    saved = copy.deepcopy(wrapper.state_dict())
    wrapper.load_state_dict(saved)
    torch.testing.assert_close(wrapper.state_dict()["state"], saved["state"], rtol=0, atol=0)


def test_add_param_group_is_torchs_again_afterwards(without_compiler):
    decorated = Optimizer.add_param_group
    with pytest.raises(ValueError, match="Invalid learning rate"), built_bare():
        SGD([nn.Parameter(torch.ones(1))], lr=-1)
    assert Optimizer.add_param_group is decorated


def test_what_others_put_in_its_place_is_called(without_compiler, monkeypatch):
    called, own = [], Optimizer.add_param_group.__wrapped__

    @functools.wraps(own)
    def counted(self, group):
        called.append(len(group["params"]))
        own(self, group)

    monkeypatch.setattr(Optimizer, "add_param_group", counted)
    with built_bare():
        SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    assert called == [1]
    assert Optimizer.add_param_group is counted


def test_contexts_that_overlap_leave_torchs_method(without_compiler):
    decorated, first, second = Optimizer.add_param_group, built_bare(), built_bare()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert Optimizer.add_param_group is decorated


def test_hooks_profilers_and_steps_of_ones_own_are_called(without_compiler, monkeypatch):
    monkeypatch.undo()  # these steps load it
    called = []

    class Own(SGD):
        def step(self, closure=None):
            called.append("own")

        def state_dict(self):
            return {"mine": 1}

    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    own = Own([weight], lr=0.1)
    step_bare(own)
    assert bare(own, "state_dict")() == {"mine": 1}
    hooked = SGD([weight], lr=0.1)
    hooked.register_step_post_hook(lambda *args: called.append("hook"))
    step_bare(hooked)
    with torch.profiler.profile() as profile:
        step_bare(SGD([weight], lr=0.1))
    assert called == ["own", "hook"]
    assert any("Optimizer.step#SGD.step" in event.key for event in profile.key_averages())


def test_hooks_of_state_dicts_are_called(without_compiler):
    weight, called = nn.Parameter(torch.ones(2)), []
    with built_bare():
        optimizer = SGD([weight], lr=0.1)
    optimizer.register_state_dict_post_hook(lambda optimizer, state: called.append(list(state)))
    bare(optimizer, "state_dict")()
    assert called == [["state", "param_groups"]]


def test_torchs_schedulers_know_of_the_step(without_compiler):
    weight = nn.Parameter(torch.ones(2))
    with built_bare():
        wrapper = OptimWrapper(SGD([weight], lr=0.1, momentum=0.9))
    scheduler = torch.optim.lr_scheduler.StepLR(wrapper.optimizer, step_size=1, gamma=0.1)
    wrapper.update_params(weight.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that the scheduler's step comes before the optimizer's
        scheduler.step()
    assert scheduler.get_last_lr() == [pytest.approx(0.01)]


def test_a_differentiable_step_keeps_its_graph(without_compiler, monkeypatch):
    monkeypatch.undo()
    weight = nn.Parameter(torch.ones(2))
    copied = weight.clone()
    optimizer = SGD([copied], lr=0.1, differentiable=True)
    copied.grad = torch.ones(2)
    step_bare(optimizer)
    assert copied.requires_grad
    assert copied.grad_fn is not None
