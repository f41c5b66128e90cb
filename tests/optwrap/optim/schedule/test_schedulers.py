"""Schedulers of our own, each beside its formula."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper, build_schedule

N = 10
POLY = {"_target_": "optwrap.optim.poly"}


def curves(cfg):
    """Return the lrs of two param groups, of which the first has the base value, in each update and after."""
    params = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.02)]
    optim_wrapper = OptimWrapper(SGD(params, lr=0.1))
    schedule = build_schedule(optim_wrapper, {"lr": cfg}, N)
    seen = [optim_wrapper.get_lr()["lr"]]
    for _ in range(N + 1):
        optim_wrapper.update_params(sum(group["params"][0].sum() for group in optim_wrapper.param_groups))
        schedule.step()
        seen.append(optim_wrapper.get_lr()["lr"])
    return [list(each) for each in zip(*seen, strict=True)]


@pytest.mark.parametrize(
    ("arguments", "power", "floor"),
    [({}, 1, 0), ({"power": 0.9, "min_factor": 0.1}, 0.9, 0.1), ({"power": 2, "eta_min": 0.03}, 2, 0.3)],
)
def test_poly_falls_to_a_floor_that_groups_have_in_proportion(arguments, power, floor):
    factors = [floor + (1 - floor) * (1 - k / N) ** power for k in range(N + 1)]
    factors.append(floor)  # and stays there
    assert curves(POLY | arguments) == [pytest.approx([lr * factor for factor in factors]) for lr in (0.1, 0.02)]


def test_poly_without_a_floor_is_torchs():
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, seen = lr_scheduler.PolynomialLR(optimizer, N, 0.9), []
    for _ in range(N):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert curves({**POLY, "power": 0.9})[0][:N] == pytest.approx(seen)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"power": -1}, "schedule.lr.power=-1: it is a number, 0 or more"),
        ({"min_factor": 0.1, "eta_min": 0.1}, "schedule.lr: min_factor and eta_min say the same"),
        ({"eta_mim": 0.1}, "schedule.lr.eta_mim.*'eta_min'"),
    ],
)
def test_what_poly_cannot_do_is_an_error(arguments, said):
    with pytest.raises(ConfigError, match=said):
        curves(POLY | arguments)
