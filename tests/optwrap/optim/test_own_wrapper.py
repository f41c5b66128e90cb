"""The wrapper of one's own in docs/extend.md: by itself, resumed, and in a run."""

import copy
import sys
from importlib import import_module
from types import ModuleType

import pytest
import torch
from torch import nn

from optwrap.checkpoint import files as checkpoint
from optwrap.optim import build_optim_wrapper, load_named_state_dict, named_state_dict
from tests.pages import IS_TEMPLATE, TEXTS, blocks

pytestmark = pytest.mark.skipif(not IS_TEMPLATE, reason="a project need not have the pages")
MUON = {"constructor": "optwrap.optim.HybridOptimWrapperConstructor", "head": ["2"]}


@pytest.fixture(autouse=True)
def spikes(monkeypatch):
    """As if the page's code stood in experiments/spikes.py."""
    (code,) = [each for each in blocks(TEXTS["docs/extend.md"], "python") if "class Spikes" in each]
    module = ModuleType("experiments.spikes")
    monkeypatch.setitem(sys.modules, "experiments.spikes", module)
    monkeypatch.setattr(import_module("experiments"), "spikes", module, raising=False)
    exec(compile(code, "spikes.py", "exec"), vars(module))
    return module


def build(model, **more):
    cfg = {
        "_target_": "experiments.spikes.Spikes",
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
        **more,
    }
    return build_optim_wrapper(model, cfg)


def test_a_loss_above_the_usual_moves_nothing(spikes):
    weight = nn.Parameter(torch.ones(1))
    optim_wrapper = spikes.Spikes(torch.optim.SGD([weight], lr=0.1), factor=2.0)
    optim_wrapper.update_params(weight.sum())
    optim_wrapper.update_params(100 * weight.sum())
    assert weight.item() == pytest.approx(0.9)
    optim_wrapper.update_params(weight.sum())
    assert weight.item() == pytest.approx(0.8)


@pytest.mark.parametrize("more", [{}, {**MUON, "hidden_optimizer": {"_target_": "torch.optim.Muon", "lr": 0.1}}])
def test_its_own_state_goes_with_that_of_the_optimizer(more, twins):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    optim_wrapper, again = build(model, **more), build(copy.deepcopy(model), **more)
    optim_wrapper.update_params(model(torch.ones(2, 3)).square().mean())
    load_named_state_dict(again, copy.deepcopy(named_state_dict(optim_wrapper)))
    assert torch.equal(again.mean, optim_wrapper.mean)
    assert again.mean.isfinite()
    plain = build(model, _target_="optwrap.optim.OptimWrapper", **more)
    load_named_state_dict(plain, named_state_dict(optim_wrapper))  # without it, its state is left


@pytest.mark.slow
@pytest.mark.parametrize(("mixins", "name"), [("[sgd,accum2,ema]", "Spikes"), ("[sgd,amp,sam]", "AmpSpikes")])
def test_a_run_with_it_goes_on_with_its_state(mixins, name, train):
    told = (f"optim_wrapper={mixins}", f"optim_wrapper._target_=experiments.spikes.{name}", "device=cpu")
    folder = train(*told, "+optim_wrapper.factor=2", "max_updates=4", "eval_every=2")
    state = checkpoint.load(folder / "checkpoint.pt", torch.device("cpu"))
    assert state["optim_wrapper"]["rest"]["mean"].isfinite()
    train(f"resume={folder}", "max_updates=8")
    later = checkpoint.load(folder / "checkpoint.pt", torch.device("cpu"))
    assert later["counters"][""]["updates"] == 8
