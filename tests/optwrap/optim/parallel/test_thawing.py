import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW

from optwrap.errors import ConfigError
from optwrap.optim import build_optim_wrapper, in_passes, load_named_state_dict, named_state_dict, table

KINDS = {"SGD": SGD, "AdamW": AdamW}


def build(model, freeze, kind="AdamW", **cfg):
    optimizer = {"_target_": f"torch.optim.{kind}", "lr": 0.1, "weight_decay": 0.1}
    return build_optim_wrapper(model, {"optimizer": optimizer, "freeze": freeze, **cfg})


def train_by_hand(model, batches, loss_of, optimizer, counts, frozen):
    """`frozen` maps a part of names to the number of updates after which it trains."""
    for update, start in enumerate(range(0, len(batches), counts)):
        for name, param in model.named_parameters():
            param.requires_grad_(not any(key in name and update < end for key, end in frozen.items()))
        window = batches[start : start + counts]
        for batch in window:
            (loss_of(model, batch) / len(window)).backward()
        clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()


CASES = {
    "updates": ({"0.": 2, "3.": 1}, {"0.": 2, "3.": 1}),
    "parts of the run": ({"0.": 0.5}, {"0.": 2}),
    "epochs": ({"0.": {"epochs": 1.5}}, {"0.": 3}),
    "always": ({"0.": None}, {"0.": 99}),
    "the longest name counts": ({"0": 1, "0.bias": 3}, {"0.weight": 1, "0.bias": 3}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data_parallel", [False, True])
def test_training_is_that_of_parameters_that_require_no_gradient(
    name, kind, data_parallel, twins, batches, loss_of, assert_close, monkeypatch
):
    model, expected = twins
    if data_parallel:  # as in a model of DDP, whose gradients are dropped
        monkeypatch.setattr("optwrap.optim.constructors.strategies.parallel_modules", lambda model: [model])
    config, frozen = CASES[name]
    optim_wrapper = build(model, config, kind, accumulative_counts=2, clip_grad={"max_norm": 0.1})
    optim_wrapper.freezer.updates_per_epoch = 2
    optim_wrapper.initialize_count_status(model, 0, len(batches))
    for batch in batches:
        optim_wrapper.update_params(loss_of(model, batch))
    plain = KINDS[kind](expected.parameters(), lr=0.1, weight_decay=0.1)
    train_by_hand(expected, batches, loss_of, plain, 2, frozen)
    assert_close(model, expected)


def test_what_is_frozen_gets_no_gradient_and_the_table_says_for_how_long(twins, batches, loss_of):
    model, _ = twins
    optim_wrapper = build(model, {"0.": 3})
    loss_of(model, batches[0]).backward()
    assert (model[0].weight.grad, model[0].bias.grad) == (None, None)
    assert model[4].weight.grad is not None
    rules = {row["name"]: row["rule"] for row in table(optim_wrapper.assignments)}
    assert rules["0.weight"] == "base, frozen for 3 updates"
    assert rules["4.weight"] == "base"


def test_a_run_that_goes_on_thaws_at_its_time(twins, batches, loss_of, assert_close):
    model, resumed = twins
    optim_wrapper = build(model, {"0.": 4})
    for batch in batches[:2]:
        optim_wrapper.update_params(loss_of(model, batch))
    resumed.load_state_dict(model.state_dict())
    again = build(resumed, {"0.": 4})
    load_named_state_dict(again, copy.deepcopy(named_state_dict(optim_wrapper)))
    again.updates = 2
    again.initialize_count_status(resumed, 2, None)
    for batch in batches[2:]:
        for each, wrapper in ((model, optim_wrapper), (resumed, again)):
            wrapper.update_params(loss_of(each, batch))
    assert_close(resumed, model)
    later = build(model, {"0.": 1})
    later.updates = 5
    later.initialize_count_status(model, 5, None)
    assert model[0].weight.requires_grad


def test_skipped_steps_thaw_nothing():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    cfg = {"_target_": "optwrap.optim.AmpOptimWrapper", "dtype": "float16", "loss_scale": 4.0}
    optim_wrapper = build(model, {"0.": 1}, "SGD", **cfg)
    optim_wrapper.update_params(model(torch.ones(1, 1)).sum() * 1e38)
    assert (optim_wrapper.skipped_steps, model[0].weight.requires_grad) == (1, False)
    optim_wrapper.update_params(model(torch.ones(1, 1)).sum())
    assert model[0].weight.requires_grad


def update(model, optim_wrapper, loss_of, batch):
    optim_wrapper.update_params(loss_of(model, batch))


@pytest.mark.parametrize("data_parallel", [False, True])
def test_sam_climbs_by_what_trains_alone(data_parallel, twins, batches, loss_of, assert_close, monkeypatch):
    model, expected = twins
    if data_parallel:
        monkeypatch.setattr("optwrap.optim.constructors.strategies.parallel_modules", lambda model: [model])
    expected[0].requires_grad_(False)
    frozen = build(model, {"0.": None}, "SGD", sam={"rho": 0.1})
    plain = build(expected, {}, "SGD", sam={"rho": 0.1})
    for each, wrapper in ((model, frozen), (expected, plain)):
        for batch in batches:
            in_passes(each, wrapper, partial(update, each, wrapper, loss_of, batch))
    assert_close(model, expected)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ({"stem": 1}, r"freeze.stem: no trainable parameter has this in its name"),
        ({"0.wieght": 1}, r"Did you mean '0.weight'"),
        ({"0.": -1}, r"freeze.0.=-1: it is a number of updates, below 1"),
        ({"0.": 1.5}, r"freeze.0.=1.5: it is a number of updates"),
        ({"0.": "2"}, r"freeze.0.='2': it is a number"),
        ({"0.": {"epoch": 2}}, r"freeze.0.=\{'epoch': 2\}: it is a number of updates, .* \{epochs: n\}"),
    ],
)
def test_what_is_wrong_is_named(freeze, message, twins):
    with pytest.raises(ConfigError, match=message):
        build(twins[0], freeze)


def test_epochs_need_a_run(twins, batches, loss_of):
    optim_wrapper = build(twins[0], {"0.": {"epochs": 1}})
    with pytest.raises(ConfigError, match="frozen for 1 epoch, which is an unknown number of updates"):
        optim_wrapper.update_params(loss_of(twins[0], batches[0]))
