"""What a model computes, counted by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD

from optwrap.hooks import ModelSummary
from optwrap.optim import HybridOptimizer, OptimWrapper
from tests.optwrap.hooks.runs import ToyRun

SAMPLES = 6
LAYERS = [(4, 8), (8, 8), (8, 3)]
FORWARD = sum(2 * SAMPLES * inputs * outputs for inputs, outputs in LAYERS)
# The gradients of weights cost as much, and so do those of inputs, of which the first layer needs none.
BACKWARD = FORWARD + sum(2 * SAMPLES * inputs * outputs for inputs, outputs in LAYERS[1:])


def sgd(model):
    return SGD(model.parameters(), lr=0.1)


def muon(model):
    hidden, rest = list(model[2].parameters())[:1], [model[0].weight, model[4].weight]
    return HybridOptimizer({"hidden": torch.optim.Muon(hidden, lr=0.1), "rest": SGD(rest, lr=0.1)})


@pytest.mark.parametrize("optimizer", [sgd, muon])
@pytest.mark.parametrize("counts", [1, 2])
def test_flops_are_those_of_forward_and_backward(optimizer, counts, twins, batches, tmp_path):
    model, _ = twins
    if optimizer is muon:  # which has parameters of its own only
        for name, param in model.named_parameters():
            param.requires_grad_(name in ("0.weight", "2.weight", "4.weight"))
    run = ToyRun(model, OptimWrapper(optimizer(model), counts), batches, tmp_path)
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    hook = ModelSummary(peak=1e12)
    hook.start(run.given)
    assert hook.flops == FORWARD + BACKWARD
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not run.optim_wrapper.optimizer.state_dict().get("state")
    assert (run.optim_wrapper.inner_count, run.optim_wrapper.updates) == (0, 0)


def test_it_gives_the_result_parameters_and_speed_and_the_share_of_the_peak(twins, batches, tmp_path):
    model, _ = twins
    model[0].weight.requires_grad_(False)
    run = ToyRun(
        model, OptimWrapper(SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)), batches, tmp_path
    )
    rows = run(summary=ModelSummary(peak=1e9))
    found = run.given.notes.results
    total = sum(param.numel() for param in model.parameters())
    assert (found["summary/parameters"], found["summary/trainable"]) == (total, total - 32)
    assert found["summary/flops"] < FORWARD + BACKWARD
    assert found["summary/utilisation"] == pytest.approx(found["summary/flops_per_second"] / 1e9)
    assert all(row["summary/flops_per_second"] > 0 for row in rows)


def test_a_peak_is_a_number_above_0():
    with pytest.raises(ValueError, match="peak must be above 0, not 0"):
        ModelSummary(peak=0)


@pytest.mark.slow
def test_a_compiled_model_is_counted_as_it_stands(twins, batches, tmp_path):
    model, _ = twins
    model.compile(backend="eager")
    assert isinstance(model, nn.Sequential)
    hook = ModelSummary()
    hook.start(ToyRun(model, OptimWrapper(sgd(model)), batches, tmp_path).given)
    assert hook.flops == FORWARD + BACKWARD
