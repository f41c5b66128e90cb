"""Schedules in parts as runs use them: param groups, plateaus, resumption, floors beside other parts."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from optwrap.optim import Metrics, OptimWrapper, build_schedule

N = 20
METRICS = Metrics({"accuracy": True, "loss": False}, "accuracy")


def wrapper(lrs=(0.1, 0.02), optimizer=SGD, **options):
    params = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    return OptimWrapper(optimizer(params, lr=0.1, **options))


def build(optim_wrapper, cfg, updates=N, per_epoch=4):
    return build_schedule(optim_wrapper, cfg, updates, METRICS, per_epoch)


def train(optim_wrapper, schedule, updates, accuracies=()):
    """Return the lrs and momenta of each update, with an evaluation after each of as many as there are."""
    seen = []
    for i in range(updates):
        seen.append((optim_wrapper.get_lr()["lr"], optim_wrapper.get_momentum()["momentum"]))
        optim_wrapper.update_params(sum(group["params"][0].sum() for group in optim_wrapper.param_groups))
        schedule.step()
        if i < len(accuracies):
            schedule.step_on_metrics({"accuracy": accuracies[i], "loss": 0.0})
    return seen


def by_hand(own, floor):
    """A rise over 16 updates and a cosine over 4 epochs of 4, begun after the first: each moves what is there."""
    value, seen = own * 0.2, [own * 0.2]
    fall = [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(5)]
    for update in range(1, N):
        if update <= 16:
            value *= (0.2 + 0.05 * update) / (0.15 + 0.05 * update)
        epoch = update // 4 - 1
        if update % 4 == 0 and epoch > 0:
            value = floor + (value - floor) * fall[epoch] / fall[epoch - 1]
        seen.append(value)
    return seen


@pytest.mark.parametrize("order", [1, -1])
def test_a_floor_beside_another_part_is_gone_to_from_update_to_update(order):
    rise = {"linear": {"start_factor": 0.2}, "from": 0, "until": 16}
    fall = {"cosine": {"min_value": 0.01}, "from": 1, "until": "5 epochs", "per": "epoch"}
    optim_wrapper = wrapper()
    schedule = build(optim_wrapper, {"lr": [rise, fall][::order]})
    seen = train(optim_wrapper, schedule, N)
    for group, own in enumerate((0.1, 0.02)):
        assert [lrs[group] for lrs, _ in seen] == pytest.approx(by_hand(own, 0.01), rel=1e-12)


@pytest.mark.parametrize(
    "shape",
    [
        {"cosine": {"length": 4, "min_value": 0.05}},
        {"cosine_restarts": {"periods": [4, 9, 7], "weights": [1, 0.5, 0.75], "min_value": 0.01}},
    ],
)
def test_a_floor_beside_another_part_may_be_left_again(shape):
    cfg = [shape, {"constant": {}, "from": 0}]
    optim_wrapper = wrapper()
    alone = wrapper()
    seen = train(optim_wrapper, build(optim_wrapper, {"lr": cfg}), N)
    assert seen == [
        (pytest.approx(lrs, rel=1e-12), momentum)
        for lrs, momentum in train(alone, build(alone, {"lr": cfg[:1]}), N)
    ]


CASES = {
    "parts": {
        "lr": [
            {"linear": {"start_factor": 0.1}, "until": "1 epoch"},
            {"cosine": {"min_value": 0.01}, "per": "epoch"},
        ],
        "momentum": {"up": {"quadratic": {}, "until": 0.3}, "main": {"poly": {"power": 0.9, "min_factor": 0.5}}},
    },
    "floor beside another": {
        "lr": [
            {"linear": {"start_factor": 0.1}, "until": 7},
            {"poly": {"min_value": 0.01, "power": 0.9}, "from": 3},
        ]
    },
    "restarts": {"lr": {"cosine_restarts": {"periods": [3, 9], "weights": [1, 0.5], "min_factor": 0.1}}},
    "one_cycle": {"lr": {"one_cycle": {}}, "momentum": {"linear": {"start_factor": 1, "end_factor": 0.5}}},
    "plateau": {
        "lr": [{"linear": {"start_factor": 0.1}, "until": 4}, {"plateau": {"patience": 0, "factor": 0.5}}]
    },
}
ACCURACIES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.6, 0.5, 0.5, 0.7, 0.8, 0.9, 0.9, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_goes_on_to_the_bit(case, optimizer):
    options = {"momentum": 0.9} if optimizer is SGD else {}

    def start():
        optim_wrapper = wrapper(optimizer=optimizer, **options)
        return optim_wrapper, build(optim_wrapper, CASES[case])

    whole = train(*start(), N, ACCURACIES)
    for place in (2, 6, 13):
        first, schedule = start()
        train(first, schedule, place, ACCURACIES)
        second, resumed = start()
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        second.updates = first.updates
        resumed.load_state_dict(schedule.state_dict())
        assert train(second, resumed, N - place, ACCURACIES[place:]) == whole[place:]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("lrs", [(0.1, 0.02), (0.3, 0.1)])
def test_a_run_of_another_length_or_lr_goes_on_at_the_same_place(case, lrs):
    def start(its_lrs, updates):
        optim_wrapper = wrapper(its_lrs, momentum=0.9)
        return optim_wrapper, build(optim_wrapper, CASES[case], updates)

    expected = train(*start(lrs, 32), 32, ACCURACIES)
    first, schedule = start((0.1, 0.02), N)
    train(first, schedule, 9, ACCURACIES)
    second, resumed = start(lrs, 32)
    second.updates = 9
    resumed.load_state_dict(schedule.state_dict())
    rest = train(second, resumed, 23, ACCURACIES[9:])
    assert rest == [(pytest.approx(lrs), pytest.approx(momenta)) for lrs, momenta in expected[9:]]


def test_a_plateau_goes_on_from_the_value_that_parts_before_it_left():
    cfg = [
        {"linear": {"start_factor": 0.5, "end_factor": 0.8}, "until": 3},
        {"plateau": {"patience": 0, "factor": 0.5}},
    ]
    optim_wrapper = wrapper()
    seen = train(optim_wrapper, build(optim_wrapper, {"lr": cfg}), 8, [0.9, 0.8, 0.1, 0.2, 0.2, 0.3, 0.1])
    factors = [0.5, 0.6, 0.7, 0.8, 0.8, 0.4, 0.4, 0.2]
    for group, own in enumerate((0.1, 0.02)):
        assert [lrs[group] for lrs, _ in seen] == pytest.approx([own * factor for factor in factors])


def test_a_plateau_after_a_value_of_all_groups_lowers_each_in_proportion():
    fall = {"linear": {"start_factor": 1, "end_factor": 1}, "until": 1}
    floor = {"poly": {"min_value": 0.01}, "until": 3}
    optim_wrapper = wrapper()
    cfg = [fall, floor, {"plateau": {"patience": 0, "factor": 0.5}}]
    train(optim_wrapper, build(optim_wrapper, {"lr": cfg}), 6, [0, 0, 0.5, 0.4, 0.6, 0.6])
    assert optim_wrapper.get_lr()["lr"] == pytest.approx([0.0025, 0.0025])


def test_a_plateau_in_parts_follows_the_metric_of_its_choice():
    optim_wrapper = wrapper()
    schedule = build(optim_wrapper, {"lr": {"plateau": {"metric": "loss", "patience": 0, "factor": 0.5}}})
    for loss in (1.0, 0.9, 0.95):
        schedule.step_on_metrics({"accuracy": 0.0, "loss": loss})
    assert optim_wrapper.get_lr()["lr"] == pytest.approx([0.05, 0.01])
