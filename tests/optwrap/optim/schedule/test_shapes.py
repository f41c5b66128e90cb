"""The shapes of parts, against plain formulas and torch's own schedulers."""

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper, build_schedule

N = 12
OWN, BASE = 0.2, 0.1


def curve(part, lr=OWN):
    """Return the lr in each of N updates, and after them, of a group beside one at the base value."""
    params = [{"params": [nn.Parameter(torch.zeros(1))], "lr": each} for each in (lr, BASE)]
    optim_wrapper = OptimWrapper(SGD(params, lr=BASE))
    schedule = build_schedule(optim_wrapper, {"lr": [part]}, N, per_epoch=4)
    seen = [optim_wrapper.get_lr()["lr"][0]]
    for _ in range(N):
        optim_wrapper.update_params(sum(group["params"][0].sum() for group in optim_wrapper.param_groups))
        schedule.step()
        seen.append(optim_wrapper.get_lr()["lr"][0])
    return seen


def torchs(make):
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=OWN)
    scheduler, seen = make(optimizer), []
    for _ in range(N):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("part", "make"),
    [
        ({"linear": {"start_factor": 0.2, "end_factor": 0.7}}, lambda o: lr_scheduler.LinearLR(o, 0.2, 0.7, N)),
        ({"constant": {"factor": 0.3}, "until": 5}, lambda o: lr_scheduler.ConstantLR(o, 0.3, 5)),
        ({"exponential": {"gamma": 0.9}}, lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
        ({"step": {"step_size": 5}}, lambda o: lr_scheduler.StepLR(o, 5)),
        ({"multi_step": {"milestones": [2, 7, 7]}}, lambda o: lr_scheduler.MultiStepLR(o, [2, 7, 7])),
        ({"poly": {"power": 0.9}}, lambda o: lr_scheduler.PolynomialLR(o, N, 0.9)),
        ({"cosine": {"min_value": 0.01}}, lambda o: lr_scheduler.CosineAnnealingLR(o, N, 0.01)),
        ({"cosine": {"length": 5}}, lambda o: lr_scheduler.CosineAnnealingLR(o, 5)),
        ({"one_cycle": {}}, lambda o: lr_scheduler.OneCycleLR(o, OWN, N, cycle_momentum=False)),
        (
            {"one_cycle": {"max_value": 0.7, "three_phase": True, "anneal_strategy": "linear", "div_factor": 5}},
            lambda o: lr_scheduler.OneCycleLR(
                o, 0.7, N, three_phase=True, anneal_strategy="linear", div_factor=5, cycle_momentum=False
            ),
        ),
        (
            {"cosine_restarts": {"periods": [4, 4, 4], "min_value": 0.01}},
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, eta_min=0.01),
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_shape_is_that_of_torchs_scheduler(part, make):
    assert curve(part)[:N] == pytest.approx(torchs(make), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("floor", "end"),
    [
        ({}, 0),
        ({"min_factor": 0.3}, 0.3 * OWN),
        ({"eta_min": 0.03}, 0.03 * OWN / BASE),
        ({"min_value": 0.03}, 0.03),
    ],
)
@pytest.mark.parametrize("shape", ["poly", "cosine"])
def test_a_floor_is_a_factor_or_a_value_of_the_base_or_one_for_all_groups(shape, floor, end):
    left = {"poly": lambda p: (1 - p) ** 2, "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2}[shape]
    arguments = floor | ({"power": 2} if shape == "poly" else {})
    expected = [end + (OWN - end) * left(update / N) for update in range(N + 1)]
    assert curve({shape: arguments}) == pytest.approx(expected)


def test_what_begins_at_0_stays_there():
    assert curve({"cosine": {"min_value": 0.03}}, lr=0.0) == [0.0] * (N + 1)


def test_quadratic_is_the_square_of_a_linear_rise():
    assert curve({"quadratic": {}, "until": 4}) == pytest.approx(
        [OWN * min((k + 1) / 5, 1) ** 2 for k in range(N + 1)]
    )
    assert curve({"quadratic": {}, "until": 4, "endpoint": True})[:5] == pytest.approx(
        [OWN * x**2 / 16 for x in (1, 2, 3, 4, 4)]
    )


def test_restarts_have_weights_and_the_last_value_stays():
    periods, weights = [4, 6], [1.0, 0.5]
    fall = [
        w * OWN * (1 + math.cos(math.pi * k / n)) / 2
        for n, w in zip(periods, weights, strict=True)
        for k in range(n)
    ]
    cfg = {"cosine_restarts": {"periods": [4, "1.5 epochs"], "weights": weights}}
    assert curve(cfg) == pytest.approx(fall + [fall[-1]] * 3)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"linear": {"start_factr": 1}}, r"linear.start_factr: linear has no argument.*'start_factor'"),
        ({"linear": {"start_factor": -1}}, r"linear.start_factor=-1: it is a number, 0 or more"),
        ({"linear": {"start_factor": "x"}}, r"linear.start_factor='x': it is a number"),
        ({"linear": {"length": 0}}, r"linear.length=0: it is 1 or more"),
        ({"exponential": {}}, r"exponential.gamma is not set"),
        ({"step": {"step_size": -3}}, r"step.step_size=-3: it is a number of updates"),
        ({"multi_step": {"milestones": 3}}, r"multi_step.milestones=3: it is a list, such as \[3\]"),
        ({"multi_step": {"milestones": [13]}}, r"multi_step.milestones\[0\]=13: it lies beyond the run's 12"),
        ({"multi_step": {"milestones": [9]}, "until": 6}, r"multi_step.milestones\[0\]=9: it counts from the run"),
        ({"cosine": {"min_factor": 0, "eta_min": 1}}, r"cosine: min_factor and eta_min say the same"),
        ({"cosine_restarts": {"periods": [3], "weights": [1, 1]}}, r"cosine_restarts: 1 periods have 2 weights"),
        (
            {"cosine_restarts": {"periods": [3], "weights": ["a"]}},
            r"cosine_restarts.weights\[0\]='a': it is a number",
        ),
        ({"one_cycle": {"pct_start": 2}}, r"one_cycle.pct_start=2: it is a number, from 0 to 1"),
        ({"one_cycle": {"anneal_strategy": "exp"}}, r"one_cycle.anneal_strategy='exp': it is cos or linear"),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_it(part, said):
    with pytest.raises(ConfigError, match=r"schedule.lr\[0\]." + said):
        curve(part)
