"""Every scheduler of torch moves the lr as the plain loop does, whatever else a run does with it."""

from itertools import chain

import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler
from torch.optim.swa_utils import SWALR

from optwrap.optim import build_optim_wrapper, build_schedule, load_named_state_dict, named_state_dict
from tests.optwrap.cases import one_in

MICRO_BATCHES, COUNTS, WARMUP = 24, 2, 4
UPDATES = MICRO_BATCHES // COUNTS
OVERFLOWS = (5, 14)  # each spoils its window: these updates are skipped
FACTORS = {"stem": 0.0, "body": 0.1, "head": 1.0}
OTHER_FACTORS = {"stem": 0.5, "body": 2.0, "head": 1.0}
ABSOLUTE = ("eta_min", "min_lr", "base_lr", "max_lr", "swa_lr")
METRICS = [0.9, 0.8, 0.85, 0.7, 0.75, 0.8]  # of an evaluation every second update
NAMES = {SWALR: "torch.optim.swa_utils.SWALR"}

CASES = {
    "LambdaLR": (lr_scheduler.LambdaLR, {"lr_lambda": lambda update: 0.9**update}, None),
    "MultiplicativeLR": (lr_scheduler.MultiplicativeLR, {"lr_lambda": lambda update: 0.95}, None),
    "StepLR": (lr_scheduler.StepLR, {"step_size": 3, "gamma": 0.5}, None),
    "MultiStepLR": (lr_scheduler.MultiStepLR, {"milestones": [2, 7]}, None),
    "ConstantLR": (lr_scheduler.ConstantLR, {"factor": 0.3}, "total_iters"),
    "LinearLR": (lr_scheduler.LinearLR, {"start_factor": 0.2, "end_factor": 0.7}, "total_iters"),
    "ExponentialLR": (lr_scheduler.ExponentialLR, {"gamma": 0.8}, None),
    "PolynomialLR": (lr_scheduler.PolynomialLR, {"power": 2.0}, "total_iters"),
    "CosineAnnealingLR": (lr_scheduler.CosineAnnealingLR, {"eta_min": 0.01}, "T_max"),
    "CosineAnnealingWarmRestarts": (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 3, "eta_min": 0.01}, None),
    "CyclicLR": (lr_scheduler.CyclicLR, {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 3}, None),
    "OneCycleLR": (lr_scheduler.OneCycleLR, {"max_lr": 0.3}, "total_steps"),
    "OneCycleLR to the own lr": (lr_scheduler.OneCycleLR, {}, "total_steps"),
    "ReduceLROnPlateau": (
        lr_scheduler.ReduceLROnPlateau,
        {"mode": "min", "patience": 0, "factor": 0.5, "min_lr": 0.02, "eps": 0.0},
        None,
    ),
    "SWALR": (SWALR, {"swa_lr": 0.02, "anneal_epochs": 4}, None),
}
COMBINING = {"LRScheduler", "SequentialLR", "ChainedScheduler"}  # the last has a test of its own below


def test_no_scheduler_of_torch_is_left_out():
    assert {name.partition(" ")[0] for name in CASES} - {"SWALR"} == set(lr_scheduler.__all__) - COMBINING


def by_hand(case, factor, after_warmup):
    """Return the lr of every update of the plain loop, the absolute values times the group's factor."""
    kind, arguments, length = CASES[case]
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.1 * factor, momentum=0.9)
    arguments = {name: value * factor if name in ABSOLUTE else value for name, value in arguments.items()}
    if length is not None:
        arguments[length] = UPDATES - WARMUP if after_warmup else UPDATES
    if kind is lr_scheduler.OneCycleLR:
        arguments.setdefault("max_lr", 0.1 * factor)
    plateau = kind is lr_scheduler.ReduceLROnPlateau
    first = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=WARMUP) if after_warmup else None
    scheduler = kind(optimizer, **arguments)
    if after_warmup and not plateau:
        scheduler = lr_scheduler.SequentialLR(optimizer, [first, scheduler], [WARMUP])
    seen = []
    for update in range(1, UPDATES + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not plateau:
            scheduler.step()
        elif first is not None and update <= WARMUP:
            first.step()
        if plateau and update % 2 == 0 and (first is None or update >= WARMUP):
            scheduler.step(METRICS[update // 2 - 1])
    return seen


def build(case, factors, after_warmup):
    kind, arguments, _ = CASES[case]
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in factors})
    optim_wrapper = build_optim_wrapper(
        model,
        {
            "_target_": "optwrap.optim.AmpOptimWrapper",
            "dtype": "float16",
            "loss_scale": 16.0,
            "accumulative_counts": COUNTS,
            "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9},
            "paramwise_cfg": {"custom_keys": {name: {"lr_mult": factor} for name, factor in factors.items()}},
        },
    )
    cfg = {"_target_": kind, **arguments}
    if after_warmup:
        warmup = {"_target_": "torch.optim.lr_scheduler.LinearLR", "start_factor": 0.1}
        sequence = "torch.optim.lr_scheduler.SequentialLR"
        cfg = {"_target_": sequence, "milestones": [WARMUP], "schedulers": [warmup, cfg]}
    schedule = build_schedule(optim_wrapper, {"lr": cfg}, MICRO_BATCHES)
    optim_wrapper.initialize_count_status(model, 0, MICRO_BATCHES)
    return model, optim_wrapper, schedule


def train(model, optim_wrapper, schedule, micro_batches):
    """Return, by update that was made, the lrs of all param groups."""
    seen = {}
    for count in micro_batches:
        lrs = {group["param_names"][0].partition(".")[0]: group["lr"] for group in optim_wrapper.param_groups}
        made = optim_wrapper.updates
        seen[made] = lrs
        loss = sum(layer(torch.ones(1, 1)).sum() for layer in model.values())
        optim_wrapper.update_params(loss * (1e38 if count in OVERFLOWS else 1))
        schedule.step()
        if optim_wrapper.updates > made and optim_wrapper.updates % 2 == 0:
            schedule.step_on_metric(METRICS[optim_wrapper.updates // 2 - 1])
    return seen


def expected(case, factors, after_warmup, updates):
    curves = {name: by_hand(case, factor, after_warmup) for name, factor in factors.items()}
    return {
        update: {name: pytest.approx(curves[name][update], abs=1e-15) for name in factors} for update in updates
    }


@pytest.mark.parametrize("after_warmup", [False, True], ids=["alone", "after a warm-up"])
@pytest.mark.parametrize("case", one_in(2, list(CASES)))
def test_the_lr_is_that_of_the_plain_loop_also_after_a_resume(case, after_warmup):
    start = build(case, FACTORS, after_warmup)
    whole = train(*start, range(MICRO_BATCHES))
    assert start[1].skipped_steps == len(OVERFLOWS)
    assert whole == expected(case, FACTORS, after_warmup, range(UPDATES - len(OVERFLOWS)))

    for place, factors in chain.from_iterable(((p, FACTORS), (p, OTHER_FACTORS)) for p in (3, 8, 17)):
        model, first, schedule = build(case, FACTORS, after_warmup)
        train(model, first, schedule, range(place))
        other, second, resumed = build(case, factors, after_warmup)
        other.load_state_dict(model.state_dict())
        load_named_state_dict(second, named_state_dict(first))
        second.updates, second.skipped_steps = first.updates, first.skipped_steps
        second.initialize_count_status(other, place, MICRO_BATCHES)
        resumed.load_state_dict(schedule.state_dict())
        rest = train(other, second, resumed, range(place, MICRO_BATCHES))
        assert rest == expected(case, factors, after_warmup, rest)
        if factors is FACTORS:
            assert rest == {update: whole[update] for update in rest}  # to the bit


def test_schedulers_that_act_together_have_the_length_of_the_run():
    model = nn.Linear(1, 1)
    optim_wrapper = build_optim_wrapper(model, {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}})
    parts = [{"_target_": lr_scheduler.ConstantLR}, {"_target_": lr_scheduler.ExponentialLR, "gamma": 0.9}]
    cfg = {"lr": {"_target_": "torch.optim.lr_scheduler.ChainedScheduler", "schedulers": parts}}
    schedule = build_schedule(optim_wrapper, cfg, 8)
    seen = []
    for _ in range(8):
        seen.append(optim_wrapper.get_lr()["lr"][0])
        optim_wrapper.update_params(model(torch.ones(1, 1)).sum())
        schedule.step()
    assert seen == pytest.approx([0.1 / 3 * 0.9**update for update in range(8)])
