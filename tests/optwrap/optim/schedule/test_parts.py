"""Schedules in parts: what may be written, where parts lie, and what each wrong one says."""

import pytest
import torch
from torch import nn
from torch.optim import SGD

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper, OptimWrapperDict, build_schedule

UPDATES, PER_EPOCH = 20, 4
HALF = {"constant": {"factor": 0.5}}


def wrapper(counts=1):
    return OptimWrapper(SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.8), counts)


def curve(cfg, updates=UPDATES, counts=1, name="lr", per_epoch=PER_EPOCH):
    """Return the hyperparameter in each update of a run."""
    optim_wrapper = wrapper(counts)
    schedule = build_schedule(optim_wrapper, {name: cfg}, updates * counts, per_epoch=per_epoch)
    seen = []
    for micro_batch in range(updates * counts):
        if micro_batch % counts == 0:
            seen.append(optim_wrapper.param_groups[0][name])
        optim_wrapper.update_params(optim_wrapper.param_groups[0]["params"][0].sum())
        schedule.step()
    return seen


@pytest.mark.parametrize(
    "cfg",
    [
        [{**HALF, "until": 8}],
        {**HALF, "until": 8},
        {"first": {**HALF, "until": 8}},
        {"first": {**HALF, "until": 8}, "rest": {"constant": None}},
        [{**HALF, "until": 8}, None, {"constant": {}, "until": None}],
        [{**HALF, "until": 0.4}],
        [{**HALF, "until": "2 epochs"}],
        [{**HALF, "until": 2, "per": "epoch"}],
        [{"constant": {"factor": 3}, "until": 0}, {**HALF, "until": 8}],
        [
            {**HALF, "until": 8},
            {"linear": {"start_factor": 1}, "from": 0, "until": 2},
            {"constant": {}, "from": 6},
        ],
        [HALF, {"step": {"step_size": 8, "gamma": 2}, "from": 0, "until": 9}],
    ],
)
def test_one_curve_may_be_written_in_many_ways(cfg):
    assert curve(cfg) == [0.5] * 8 + [1.0] * 12


def test_a_part_goes_on_from_what_the_ones_before_it_left():
    cfg = [
        {"linear": {"start_factor": 0.0}, "until": 4},
        {"linear": {"start_factor": 1.0, "end_factor": 0.5}, "until": 8},
        {"constant": {}, "until": 10},
        {"multi_step": {"milestones": [12]}},
    ]
    falls = [1, 0.875, 0.75, 0.625]
    assert curve(cfg) == pytest.approx([0, 0.25, 0.5, 0.75, *falls, *[0.5] * 4, *[0.05] * 8])


def test_parts_that_act_together_multiply():
    cfg = [{"linear": {"start_factor": 0.5}, "until": 4}, {"step": {"step_size": 2, "gamma": 0.1}, "from": 0}]
    rise = [0.5, 0.625, 0.75, 0.875] + [1.0] * 16
    assert curve(cfg) == pytest.approx([up * 0.1 ** (i // 2) for i, up in enumerate(rise)])


def test_per_epoch_the_value_changes_once_in_each_and_numbers_count_them():
    cfg = [
        {"linear": {"start_factor": 0.25}, "until": 3, "per": "epoch"},
        {"multi_step": {"milestones": [4]}, "per": "epoch"},
    ]
    assert curve(cfg) == pytest.approx([0.25] * 4 + [0.5] * 4 + [0.75] * 4 + [1.0] * 4 + [0.1] * 4)


def test_per_epoch_a_part_that_begins_inside_an_epoch_steps_with_the_next_one():
    cfg = [{"constant": {}, "until": 6}, {"linear": {"start_factor": 1, "end_factor": 0.5}, "per": "epoch"}]
    falls = [factor for factor in (0.875, 0.75, 0.625) for _ in range(4)]
    assert curve(cfg) == pytest.approx([1.0] * 8 + falls)
    assert curve([cfg[0], {"multi_step": {"milestones": [3]}, "per": "epoch"}]) == [1.0] * 12 + [0.1] * 8


def test_an_epoch_of_updates_goes_by_accumulation_and_begins_with_an_update():
    cfg = {"step": {"step_size": 1, "gamma": 0.5}, "per": "epoch"}
    assert curve(cfg, updates=6, counts=2) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert curve(cfg, updates=6, counts=3) == [1, 1, 0.5, 0.25, 0.125, 0.125]  # micro-batches 0, 3, 6, 9, 12, 15


def test_endpoint_gives_a_parts_last_update_its_last_value():
    cfg = {"linear": {"start_factor": 0.0}, "until": 5}
    assert curve([cfg])[:6] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert curve([{**cfg, "endpoint": True}])[:6] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0, 1.0])


@pytest.mark.parametrize("name", ["lr", "momentum"])
def test_any_number_of_an_optimizer_may_move(name):
    own = wrapper().param_groups[0][name]
    assert curve([{**HALF, "until": 8}], name=name) == [own * 0.5] * 8 + [own] * 12


def test_each_wrapper_of_several_has_parts_and_epochs_of_its_own():
    wrappers = OptimWrapperDict(gen=wrapper(), disc=wrapper(counts=2))
    cfg = {"gen": {"lr": [HALF]}, "disc": {"lr": [{"constant": {"factor": 0.1}, "until": "1 epoch"}]}}
    schedule = build_schedule(wrappers, cfg, 8, per_epoch=4)
    assert wrappers.get_lr() == {"gen.lr": [0.5], "disc.lr": [0.1]}
    for micro_batch in range(8):
        for each in wrappers.values():
            each.update_params(each.param_groups[0]["params"][0].sum())
        schedule.step()
        assert wrappers["disc"].get_lr()["lr"] == [0.1 if micro_batch < 3 else 1.0]


RISE = {"linear": {}, "until": 4}


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ([], r"schedule.lr=\[\]: it has no part"),
        ({}, "schedule.lr={}: it has no part"),
        ([{"linar": {}}], r"schedule.lr\[0\].linar: a part has one shape, of linear.*Did you mean 'linear'"),
        ({"up": {"linear": {}, "untl": 3}}, r"schedule.lr.up.untl: .*Did you mean 'until'"),
        ([{"linear": {}, "cosine": {}}], r"schedule.lr\[0\]: linear and cosine are two shapes"),
        ([{"until": 3}], r"schedule.lr\[0\]: it has no shape"),
        (["linear"], r"schedule.lr\[0\]='linear': a part is a mapping with one shape"),
        ([{"linear": 0.1}], r"schedule.lr\[0\].linear=0.1: it is a mapping of arguments"),
        ([{"linear": {}, "from": 6, "until": 4}], r"schedule.lr\[0\].until=4: that is update 4, and the part"),
        (
            [RISE, {"cosine": {}, "until": 3}],
            r"schedule.lr\[1\].until=3: that is update 3, and the part begins at",
        ),
        (
            [{"linear": {}, "until": 21}],
            r"schedule.lr\[0\].until=21: it lies beyond the run's 20 updates \(5 epochs\)",
        ),
        ([{"linear": {}, "until": -1}], r"schedule.lr\[0\].until=-1: it is a number of updates"),
        (
            [RISE, {"cosine": {}, "from": 6}],
            r"schedule.lr\[1\].from: nothing acts from update 4, .* to 6.*constant",
        ),
        ([{"cosine": {}, "from": 2}], r"schedule.lr\[0\].from: nothing acts from update 0 to 2"),
        (
            [{"linear": {}}, {"cosine": {}}],
            r"schedule.lr\[1\]: the part before it goes on.*schedule.lr\[0\].until",
        ),
        ([{"linear": {}, "per": "step"}], r"schedule.lr\[0\].per='step': it is update, or epoch"),
        ([{"linear": {}, "endpoint": 3}], r"schedule.lr\[0\].endpoint=3: it is true"),
        ([{"plateau": {}}, {"constant": {}}], r"schedule.lr\[0\]: a plateau .* Make it the last part"),
        ([RISE, {"plateau": {}, "until": 9}], r"schedule.lr\[1\].until: a plateau goes on to the end"),
        (
            {"_target_": "optwrap.optim.warmup_cosine", "up": RISE},
            r"schedule.lr: it has parts \(up\) beside _target_=optwrap.optim.warmup_cosine.*schedule=constant",
        ),
        ([RISE, {"plateau": {"patiense": 1}}], r"schedule.lr\[1\].plateau.patiense: .*'patience'"),
    ],
)
def test_a_wrong_part_is_an_error_that_names_the_key_and_the_remedy(cfg, said):
    with pytest.raises(ConfigError, match=said):
        curve(cfg)


LATER = [{"multi_step": {"milestones": ["90 epochs"]}, "per": "epoch"}, {"plateau": {"patience": 0}}]


@pytest.mark.parametrize("later", LATER)
def test_parts_may_lie_beyond_the_end_of_a_run_that_is_cut_short(later):
    optim_wrapper = wrapper()
    cfg = {"lr": [{"linear": {"start_factor": 0.5}, "until": 500}, later]}
    schedule = build_schedule(optim_wrapper, cfg, 2, per_epoch=2, cut_short=True)
    for metric in (1.0, 2.0):  # which no plateau is there to see
        schedule.step_on_metric(metric)
    assert optim_wrapper.get_lr()["lr"] == [0.5]


def test_epochs_of_a_run_that_has_none_are_an_error():
    with pytest.raises(ConfigError, match=r"schedule.lr\[0\].until='1 epoch': nobody knows"):
        curve([{"linear": {}, "until": "1 epoch"}], per_epoch=None)
