"""Closures: what a wrapper would do to the gradients is lost, since the optimizer computes them anew."""

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Optimizer

from optwrap.errors import ConfigError
from optwrap.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper


class Sam(Optimizer):
    """Sharpness-aware minimisation around SGD: its second gradients come from a closure."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
        self.base = SGD(self.param_groups, lr=lr)

    @torch.no_grad()
    def step(self, closure):
        params = [param for group in self.param_groups for param in group["params"]]
        ascents = [0.05 * param.grad for param in params]
        torch._foreach_add_(params, ascents)
        with torch.enable_grad():
            closure()
        torch._foreach_sub_(params, ascents)
        self.base.step()


def run(optim_wrapper, model, **kwargs):
    def loss():
        return (model(torch.ones(1, 1)) - 3).square().sum()

    def closure():
        model.zero_grad()
        value = loss()
        value.backward()
        return value

    optim_wrapper.update_params(loss(), step_kwargs={"closure": closure}, **kwargs)


ASKED_FOR = {
    "clip_grad": {"clip_grad": {"max_norm": 1e-6}},
    "accumulative_counts": {"accumulative_counts": 2},
    "loss_scale": {"loss_scale": 8},
}


@pytest.mark.parametrize("optimizer", [LBFGS, Sam])
@pytest.mark.parametrize("key", ASKED_FOR)
def test_what_a_closure_would_undo_is_an_error_when_the_wrapper_is_built(key, optimizer):
    with pytest.raises(
        ConfigError, match=rf"^{key}: {optimizer.__name__} takes a closure.*optim_wrapper=adamw, or"
    ):
        AmpOptimWrapper(optimizer(nn.Linear(1, 1).parameters(), lr=0.1), **ASKED_FOR[key])


def test_the_message_names_the_key_of_the_config():
    cfg = {"optimizer": {"_target_": "torch.optim.LBFGS"}, "clip_grad": {"clip_value": 0.1}}
    with pytest.raises(ConfigError, match=r"^optim_wrapper\.clip_grad: LBFGS"):
        build_optim_wrapper(nn.Linear(1, 1), cfg)


@pytest.mark.parametrize("key", ["clip_grad", "loss_scale"])
def test_an_optimizer_that_may_do_without_a_closure_is_refused_one_at_its_step(key):
    model = nn.Linear(1, 1)
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), **ASKED_FOR[key])
    before = model.weight.item()
    with pytest.raises(ConfigError, match=rf"^{key}: SGD"):
        run(optim_wrapper, model)
    assert model.weight.item() == before


@pytest.mark.parametrize("optimizer", [LBFGS, Sam, SGD])
def test_a_weight_beside_a_closure_is_refused(optimizer):
    model = nn.Linear(1, 1)
    with pytest.raises(ConfigError, match=r"^update_params\(weight=\.\.\.\): "):
        run(OptimWrapper(optimizer(model.parameters(), lr=0.1)), model, weight=4)


@pytest.mark.parametrize("kind", [OptimWrapper, AmpOptimWrapper])
def test_without_any_of_it_a_closure_steps_as_in_plain_torch(kind):
    model, expected = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    expected.load_state_dict(model.state_dict())
    run(kind(Sam(model.parameters(), lr=0.1)), model)
    weight = expected.weight.item()
    ascended = weight + 0.05 * 2 * (weight - 3)
    assert model.weight.item() == pytest.approx(weight - 0.1 * 2 * (ascended - 3), rel=1e-6)
