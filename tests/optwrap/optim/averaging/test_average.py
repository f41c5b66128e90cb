import copy
import functools

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from optwrap.errors import ConfigError
from optwrap.optim import (
    AmpOptimWrapper,
    OptimWrapper,
    build_optim_wrapper,
    load_named_state_dict,
    named_state_dict,
)
from optwrap.optim.averaging.average import WeightAverage, parse_averaging
from optwrap.optim.step import finish
from optwrap.optim.step.one_pass import OnePass


def evaluated(model, optim_wrapper):
    """Return a copy of the model as it is evaluated."""
    with optim_wrapper.evaluation_weights():
        return copy.deepcopy(model)


def warm(decay, warmup):
    """Return torch's exponential average with a decay that grows to `decay`."""
    return lambda averages, params, count: get_ema_multi_avg_fn(min(decay, (1 + count) / (warmup + count)))(
        averages, params, count
    )


BY_HAND = {
    "constant decay": ({"kind": "ema", "decay": 0.7, "warmup": 0}, get_ema_multi_avg_fn(0.7), range(1, 99)),
    "warm-up": ({"kind": "ema", "decay": 0.5, "warmup": 10}, warm(0.5, 10), range(1, 99)),
    "every third": ({"kind": "ema", "decay": 0.7, "every": 3}, warm(0.7, 10), range(1, 99, 3)),
    "late": ({"kind": "ema", "decay": 0.7, "begin": 3}, warm(0.7, 10), range(3, 99)),
    "equal": ({"kind": "swa"}, get_swa_multi_avg_fn(), range(1, 99)),
    "equal, of the second half": ({"kind": "swa", "begin": 0.5}, get_swa_multi_avg_fn(), range(3, 99)),
    "equal, of every second": ({"kind": "swa", "every": 2, "begin": 2}, get_swa_multi_avg_fn(), range(2, 99, 2)),
}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_averages_are_those_of_torch(name, optimizer, twins, batches, loss_of, assert_close):
    averaging, function, updates = BY_HAND[name]
    model, expected = twins
    optim_wrapper = OptimWrapper(
        optimizer(model.parameters(), lr=0.1),
        accumulative_counts=2,
        clip_grad={"max_norm": 0.5},
        averaging=averaging,
    )
    optim_wrapper.initialize_count_status(model, 0, len(batches))
    plain = optimizer(expected.parameters(), lr=0.1)
    by_hand = AveragedModel(expected, multi_avg_fn=function)
    for count, batch in enumerate(batches, start=1):
        optim_wrapper.update_params(loss_of(model, batch))
        (loss_of(expected, batch) / 2).backward()
        if count % 2 == 0:
            nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
            plain.step()
            plain.zero_grad()
            if count // 2 in updates:
                by_hand.update_parameters(expected)
    assert_close(evaluated(model, optim_wrapper), by_hand.module)
    assert_close(model, expected)


def test_before_the_first_average_the_weights_themselves_are_evaluated(twins, batches, loss_of, assert_close):
    model, _ = twins
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), averaging={"kind": "swa", "begin": 9})
    for batch in batches:
        optim_wrapper.update_params(loss_of(model, batch))
    assert_close(evaluated(model, optim_wrapper), model)


@pytest.mark.parametrize("fails", [False, True])
def test_an_evaluation_leaves_every_bit_of_the_weights_as_it_was(fails, twins, batches, loss_of):
    model, _ = twins
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), averaging={"kind": "ema"})
    for batch in batches:
        optim_wrapper.update_params(loss_of(model, batch))
    before = copy.deepcopy(model.state_dict())
    if fails:
        with pytest.raises(ZeroDivisionError), optim_wrapper.evaluation_weights():
            raise ZeroDivisionError
    else:
        assert not torch.equal(evaluated(model, optim_wrapper)[0].weight, before["0.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize("name", BY_HAND)
def test_skipped_steps_are_not_averaged(name, on_host, monkeypatch):
    if not on_host:  # as on CUDA, where the device decides which steps are skipped
        monkeypatch.setattr(finish, "OnePass", functools.partial(OnePass, on_host=False))
    averaging, function, updates = BY_HAND[name]
    model = nn.Linear(3, 1, bias=False)
    expected = copy.deepcopy(model)
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), dtype="float16", loss_scale=4.0)
    optim_wrapper.averaging = WeightAverage(**averaging)
    optim_wrapper.initialize_count_status(model, 0, 4)
    by_hand, made = AveragedModel(expected, multi_avg_fn=function), 0
    for skipped in (True, False, False, True, True, False, False, False):
        optim_wrapper.initialize_count_status(model, 0, 4)
        optim_wrapper.update_params((model.weight * (1e38 if skipped else 0.5)).sum())
        if skipped:
            continue
        made += 1
        with torch.no_grad():
            expected.weight -= 0.05
        if made in updates:
            by_hand.update_parameters(expected)
    torch.testing.assert_close(evaluated(model, optim_wrapper).weight, by_hand.module.weight)
    assert optim_wrapper.averaging.updates == 5


def test_averages_of_half_precision_weights_do_not_lose_small_steps():
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    average = WeightAverage("ema", decay=0.999, warmup=0)
    average.step([weight], skipped=False)
    weight.data.fill_(1.5)
    for _ in range(100):
        average.step([weight], skipped=False)
    assert average.averages[0].item() == pytest.approx(1.5 - 0.5 * 0.999**100, rel=1e-5)
    with average.in_place_of([weight]):
        assert weight.dtype == torch.bfloat16
        assert weight.item() == pytest.approx(1.0469, abs=1e-3)


@pytest.mark.parametrize("average_buffers", [False, True])
def test_running_statistics_are_copied_or_averaged_as_torch_does(average_buffers, assert_close):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1))
    expected = copy.deepcopy(model)
    averaging = {"kind": "ema", "decay": 0.7, "batch_norm": "average" if average_buffers else "copy"}
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), averaging=averaging)
    optim_wrapper.initialize_count_status(model, 0, None)
    plain = SGD(expected.parameters(), lr=0.1)
    by_hand = AveragedModel(expected, multi_avg_fn=warm(0.7, 10), use_buffers=average_buffers)
    for _ in range(5):
        batch = torch.randn(6, 4)
        optim_wrapper.update_params(model(batch).square().mean())
        expected(batch).square().mean().backward()
        plain.step()
        plain.zero_grad()
        by_hand.update_parameters(expected)
    by_hand.module[1].num_batches_tracked.copy_(expected[1].num_batches_tracked)  # torch averages it, too
    assert_close(evaluated(model, optim_wrapper), by_hand.module)
    assert_close(model, expected)


def test_one_of_several_wrappers_averages_its_own_submodule_alone():
    model = nn.ModuleDict({name: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for name in ("gen", "disc")})
    cfg = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
    averaging = {"averaging": {"kind": "ema", "batch_norm": "average"}}
    constructor = {"_target_": "optwrap.optim.MultiOptimWrapperConstructor"}
    wrappers = build_optim_wrapper(model, {"constructor": constructor, "gen": cfg | averaging, "disc": cfg})
    wrappers.initialize_count_status(model, 0, None)
    for _ in range(4):
        for name, wrapper in wrappers.items():
            wrapper.update_params(model[name](torch.randn(5, 2)).square().mean())
    found, own = evaluated(model, wrappers).state_dict(), model.state_dict()
    others = {name for name in own if not torch.equal(own[name], found[name])}
    assert {"gen.0.weight", "gen.1.weight", "gen.1.running_mean", "gen.1.running_var"} <= others
    assert all(name.startswith("gen.") for name in others)


def build(model, averaging, paramwise=None, kind="AdamW"):
    cfg = {"optimizer": {"_target_": f"torch.optim.{kind}", "lr": 0.05}, "averaging": averaging}
    return build_optim_wrapper(model, cfg | ({"paramwise_cfg": paramwise} if paramwise else {}))


@pytest.mark.parametrize("paramwise", [None, {"custom_keys": {"2.": {"lr_mult": 1.0, "eps": 1e-9}}}])
def test_a_run_that_goes_on_has_the_same_averages_to_the_bit(paramwise, twins, batches, loss_of):
    averaging = {"kind": "ema", "decay": 0.7}
    model, resumed = twins
    optim_wrapper = build(model, averaging)
    for batch in batches[:5]:
        optim_wrapper.update_params(loss_of(model, batch))
    state = copy.deepcopy(named_state_dict(optim_wrapper))
    resumed.load_state_dict(copy.deepcopy(model.state_dict()))
    again = build(resumed, averaging, paramwise)
    load_named_state_dict(again, state)
    kept = copy.deepcopy(state["rest"]["averaging"]["averages"])
    for batch in batches[5:]:
        for each, wrapper in ((model, optim_wrapper), (resumed, again)):
            wrapper.update_params(loss_of(each, batch))
    first, second = evaluated(model, optim_wrapper).state_dict(), evaluated(resumed, again).state_dict()
    tolerance = {} if paramwise else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(first, second, **tolerance)
    assert again.averaging.updates == 8
    assert all(torch.equal(value, state["rest"]["averaging"]["averages"][name]) for name, value in kept.items())


def test_the_wrappers_own_state_goes_by_name(twins, batches, loss_of):
    model, other = twins
    optim_wrapper = build(model, {"kind": "ema"})
    for batch in batches:
        optim_wrapper.update_params(loss_of(model, batch))
    state = optim_wrapper.state_dict()
    params = dict(reversed(list(other.named_parameters())))
    swapped = OptimWrapper(AdamW(params.items(), lr=0.05), averaging={"kind": "ema"})
    swapped.load_state_dict(state)
    torch.testing.assert_close(
        evaluated(other, swapped).state_dict(), evaluated(model, optim_wrapper).state_dict()
    )


def test_an_average_that_is_new_in_a_resumed_run_begins_there(twins, batches, loss_of, assert_close):
    model, _ = twins
    optim_wrapper = build(model, {"kind": None})
    for batch in batches[:3]:
        optim_wrapper.update_params(loss_of(model, batch))
    averaged = build(model, {"kind": "swa"})
    load_named_state_dict(averaged, named_state_dict(optim_wrapper))
    averaged.averaging.start_after(3)
    seen = []
    for batch in batches[3:5]:
        averaged.update_params(loss_of(model, batch))
        seen.append(model[0].weight.detach().clone())
    torch.testing.assert_close(evaluated(model, averaged)[0].weight, (seen[0] + seen[1]) / 2)


def test_an_average_of_another_kind_begins_anew_at_a_resume(twins, batches, loss_of, caplog):
    model, _ = twins
    optim_wrapper = build(model, {"kind": "ema"})
    for batch in batches[:3]:
        optim_wrapper.update_params(loss_of(model, batch))
    equal = build(model, {"kind": "swa"})
    load_named_state_dict(equal, copy.deepcopy(named_state_dict(optim_wrapper)))
    assert "averaging.kind=swa: it was ema before, and begins anew" in caplog.text
    seen = []
    for batch in batches[3:5]:
        equal.update_params(loss_of(model, batch))
        seen.append(model[0].weight.detach().clone())
    torch.testing.assert_close(evaluated(model, equal)[0].weight, (seen[0] + seen[1]) / 2)
    assert equal.averaging.updates == 5


def test_a_checkpoint_with_averages_loads_where_nothing_is_averaged(twins, batches, loss_of, assert_close):
    model, _ = twins
    optim_wrapper = build(model, {"kind": "ema"})
    optim_wrapper.update_params(loss_of(model, batches[0]))
    plain = build(model, None)
    load_named_state_dict(plain, named_state_dict(optim_wrapper))
    assert_close(evaluated(model, plain), model)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "exponential"}, r"averaging.kind='exponential': it is one of ema, swa"),
        ({"kind": "ema", "decay": 1.0}, r"averaging.decay=1.0: it lies between 0 and 1"),
        ({"kind": "ema", "decay": "0.9"}, r"averaging.decay='0.9': it is a number"),
        ({"kind": "ema", "every": 0}, r"averaging.every=0: it is a number of updates"),
        ({"kind": "ema", "begin": 1.5}, r"averaging.begin=1.5: it is the first update"),
        ({"kind": "ema", "batch_norm": "none"}, r"averaging.batch_norm='none': it is one of"),
        ({"kind": "ema", "momentum": 0.9}, r"averaging.momentum=0.9: there is no such field"),
        ({"decay": 0.9}, r"averaging.decay=0.9: nothing is averaged. Set averaging.kind, or add ema"),
    ],
)
def test_what_is_wrong_is_named(config, message):
    with pytest.raises(ConfigError, match=message):
        parse_averaging(config)
    with pytest.raises(ConfigError, match=rf"^optim_wrapper\.{message}"):
        build(nn.Linear(1, 1), config)


def test_a_part_of_all_updates_needs_their_number():
    optim_wrapper = OptimWrapper(
        SGD([nn.Parameter(torch.ones(1))], lr=0.1), averaging={"kind": "swa", "begin": 0.5}
    )
    with pytest.raises(ConfigError, match=r"averaging.begin=0.5: a part of how many updates"):
        optim_wrapper.update_params(optim_wrapper.param_groups[0]["params"][0].sum())
