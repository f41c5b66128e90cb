"""MMEngine's scheduler lists as schedules in parts: the curves are its own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from optwrap.from_mmengine.schedules import schedule_of
from optwrap.optim import OptimWrapper, build_schedule
from tests.optwrap.from_mmengine.lists import BY_HAND, OTHERS, E, N, case, falls, of_updates, rises
from tests.optwrap.from_mmengine.shortened import UPDATES_PER_EPOCH, shortened

# The distinct lists of MMPretrain 1.2.0, MMDetection 3.3.0, MMSegmentation 1.2.2 and MMagic 1.2.0, and how many
# configs have each. Numbers of epochs where `by_epoch`, else of iterations.
CORPUS = json.loads((Path(__file__).parent / "schedules.json").read_text())
LEFT_OUT = {"LinearLrInterval", "ReduceLR"}
OPTIMIZERS = [SGD, Adam]
NAMES = ("lr", "momentum", "weight_decay")


def groups_of(optimizer):
    """Return an optimizer of three param groups with values of their own."""
    own = {
        "lr": (0.1, 0.02, 0.3),
        "weight_decay": (0.3, 0.25, 0.5),
        "momentum": (0.9, 0.8, 0.95),
    }
    groups = []
    for i in range(3):
        group = {
            "params": [nn.Parameter(torch.zeros(1))],
            "lr": own["lr"][i],
            "weight_decay": own["weight_decay"][i],
        }
        momentum = own["momentum"][i]
        groups.append(group | ({"momentum": momentum} if optimizer is SGD else {"betas": (momentum, 0.999)}))
    return optimizer(groups, lr=0.1)


def values(optimizer):
    return [
        [group["lr"], group["momentum"] if "momentum" in group else group["betas"][0], group["weight_decay"]]
        for group in optimizer.param_groups
    ]


def ours(param_scheduler, by_epoch, length, optimizer, per_epoch=UPDATES_PER_EPOCH):
    """Return the values of each update under the schedule that the list becomes."""
    cfg, _ = schedule_of(param_scheduler, by_epoch, length)
    optim_wrapper = OptimWrapper(groups_of(optimizer))
    updates = length * per_epoch if by_epoch else length
    schedule = build_schedule(optim_wrapper, cfg, updates, per_epoch=per_epoch)
    seen = []
    for _ in range(updates):
        seen.append(values(optim_wrapper.optimizer))
        optim_wrapper.update_params(sum(group["params"][0].sum() for group in optim_wrapper.param_groups))
        schedule.step()
    return seen


def kinds(each):
    return {scheduler["type"] for scheduler in each["param_scheduler"]}


TRANSLATED = [shortened(each) for each in CORPUS if not kinds(each) & LEFT_OUT]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("index", range(len(TRANSLATED) + len(OTHERS)))
def test_curves_of_every_list_are_mmengines_own(index, optimizer):
    pytest.importorskip("mmengine")
    from tests.optwrap.from_mmengine.oracle import curves

    arguments = [*TRANSLATED, *OTHERS][index].values()
    expected = curves(*arguments, UPDATES_PER_EPOCH, groups_of(optimizer), values)
    seen = np.array(ours(*arguments, optimizer))
    np.testing.assert_allclose(seen, np.array(expected), rtol=1e-9, atol=1e-12)


def test_more_than_99_in_100_configs_translate_and_the_rest_is_said():
    configs = sum(each["configs"] for each in CORPUS)
    left_out = 0
    for each in CORPUS:
        _, notes = schedule_of(each["param_scheduler"], each["by_epoch"], each["length"])
        unknown = kinds(each) & LEFT_OUT
        assert {note.partition(":")[0] for note in notes if "left out" in note} == unknown
        left_out += each["configs"] * bool(unknown)
    assert (configs, left_out) == (2054, 8)
    assert left_out < configs / 100


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", BY_HAND)
def test_curves_are_those_by_hand(name, optimizer):
    each, by_hand = BY_HAND[name]
    seen = ours(each["param_scheduler"], each["by_epoch"], each["length"], optimizer, E)
    assert len(seen) == N
    others = [group[1:] for group in values(groups_of(optimizer))]
    for k, groups in enumerate(seen):
        own = [group["lr"] for group in groups_of(optimizer).param_groups]
        assert [group[0] for group in groups] == pytest.approx([by_hand(each, k) for each in own], rel=1e-12)
        assert [group[1:] for group in groups] == others


def test_momentum_and_weight_decay_move_too():
    each = case(
        of_updates("LinearMomentum", start_factor=0.5, end=11),
        {"type": "CosineAnnealingParamScheduler", "param_name": "weight_decay", "eta_min": 0.1},
        length=6,
    )
    for optimizer in OPTIMIZERS:
        _, momentum, weight_decay = zip(*[group[0] for group in ours(*each.values(), optimizer, E)], strict=True)
        assert momentum == pytest.approx([0.9 * rises(0.5, 10)(k) for k in range(N)])
        assert weight_decay == pytest.approx([falls(0.1, 6)(0.3, k // E) for k in range(N)])


def test_the_parts_read_as_one_would_write_them():
    warm = of_updates("LinearLR", start_factor=0.001, begin=0, end=500)
    assert schedule_of([warm, {"type": "MultiStepLR", "milestones": [8, 11], "gamma": 0.1}], True, 12) == (
        {
            "lr": [
                {"linear": {"start_factor": 0.001}, "until": 500, "endpoint": True},
                {"multi_step": {"milestones": [8, 11], "gamma": 0.1}, "from": 0, "per": "epoch"},
            ]
        },
        [],
    )
    steps = {"type": "MultiStepLR", "milestones": [3]}
    assert schedule_of([steps, of_updates("ConstantLR", factor=0.5, begin=5, end=9)], True, 12)[0]["lr"] == [
        {"multi_step": {"milestones": [3]}, "per": "epoch"},
        {"constant": {"factor": 0.5}, "endpoint": True, "from": 5, "until": 9},
    ]
    late = {"type": "CosineAnnealingLR", "begin": 150, "end": 300, "T_max": 150, "convert_to_iter_based": True}
    assert schedule_of([warm, late], True, 300)[0]["lr"][1:] == [
        {"constant": {}, "from": 0, "until": "150 epochs"},
        {"cosine": {}},
    ]


@pytest.mark.parametrize(
    ("scheduler", "note"),
    [
        ({"type": "LinearLrInterval", "interval": 4}, "LinearLrInterval: left out"),
        ({"type": "MultiStepLR", "milestones": [3], "strange": 1}, "MultiStepLR: its strange is left out"),
        ({"type": "LinearLR", "begin": 12, "end": 20}, "LinearLR: begin=12 is the end of the run"),
        ({"type": "ReduceOnPlateauLR", "end": 5}, "ReduceOnPlateauLR: its end is left out"),
        ({"type": "ReduceOnPlateauLR", "min_value": 0.1}, "its min_value is the base value's"),
        (
            {"type": "CosineAnnealingParamScheduler", "param_name": "weight_decay", "eta_min": 0.1},
            "is 0 stays there",
        ),
    ],
)
def test_what_is_not_carried_over_is_said(scheduler, note):
    _, notes = schedule_of([scheduler], True, 12)
    assert [note in each for each in notes] == [True]


def test_iterations_are_counted_in_updates_under_accumulation():
    listed = [of_updates("LinearLR", end=1000, start_factor=0.1), {"type": "MultiStepLR", "milestones": [8]}]
    cfg, notes = schedule_of(listed, True, 12, accumulative_counts=4)
    assert cfg["lr"] == [
        {"linear": {"start_factor": 0.1}, "endpoint": True, "until": 250},
        {"multi_step": {"milestones": [8]}, "from": 0, "per": "epoch"},
    ]
    assert ["rounded to updates" in note for note in notes] == [True]
    cosine = of_updates("CosineAnnealingLR", T_max=1000)
    assert schedule_of([cosine], False, 1000, accumulative_counts=4)[0] == {"lr": [{"cosine": {}}]}


def test_what_steps_by_epoch_stands_in_a_run_of_iterations():
    cfg, notes = schedule_of([{"type": "LinearLR", "start_factor": 0.5}], False, 60)
    assert cfg == {"lr": [{"constant": {"factor": 0.5}}]}
    assert ["does not step" in note for note in notes] == [True]


def test_a_plateau_follows_its_metric_after_a_warm_up():
    scheduler = {"type": "ReduceOnPlateauLR", "monitor": "accuracy", "rule": "greater", "patience": 2, "begin": 5}
    cfg, notes = schedule_of([of_updates("LinearLR", start_factor=0.1, end=5), scheduler], True, 12)
    assert cfg["lr"][1:] == [
        {"constant": {}, "from": 0, "until": "5 epochs"},
        {"plateau": {"metric": "accuracy", "mode": "max", "patience": 2}},
    ]
    assert notes == []
