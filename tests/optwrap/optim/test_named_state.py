import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD

from optwrap.optim import OptimWrapper, build_optim_wrapper
from optwrap.optim.named_state import load_named_options, load_named_state_dict, named_state_dict

ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.1}
PLAIN = {"optimizer": ADAMW}
PARAMWISE = {
    "optimizer": ADAMW,
    "paramwise_cfg": {"norm_decay_mult": 0, "custom_keys": {"4": {"lr_mult": 0.5}, "0.b": {"lr_mult": 2}}},
}
HYBRID = {
    "constructor": "optwrap.optim.HybridOptimWrapperConstructor",
    "optimizer": ADAMW,
    "hidden_optimizer": {"_target_": "torch.optim.Muon", "lr": 0.02},
}
AMP = {**PARAMWISE, "_target_": "optwrap.optim.AmpOptimWrapper", "dtype": "float16", "accumulative_counts": 3}


def train(model, optim_wrapper, batches, loss_of):
    for batch in batches:
        with optim_wrapper.optim_context(model):
            loss = loss_of(model, batch)
        optim_wrapper.update_params(loss)


def moments(optim_wrapper):
    return named_state_dict(optim_wrapper)["state"]


@pytest.mark.parametrize(("before", "after"), [(PLAIN, PARAMWISE), (PARAMWISE, PLAIN)])
def test_state_follows_the_names_into_other_param_groups(before, after, twins, batches, loss_of):
    model, _ = twins
    first = build_optim_wrapper(model, before)
    train(model, first, batches[:3], loss_of)
    state = copy.deepcopy(named_state_dict(first))
    other = copy.deepcopy(model)
    second = build_optim_wrapper(other, after)
    assert not load_named_state_dict(second, state)
    torch.testing.assert_close(moments(second), state["state"], rtol=0, atol=0)
    lrs = {name: g["lr"] for g in second.param_groups for name in g["param_names"]}
    assert set(lrs.values()) == ({0.01, 0.005, 0.02} if after is PARAMWISE else {0.01})


@pytest.mark.parametrize("cfg", [PLAIN, PARAMWISE, HYBRID, AMP])
def test_a_run_resumes_exactly_also_inside_a_window(cfg, twins, batches, loss_of, assert_equal):
    model, expected = twins
    whole = build_optim_wrapper(expected, cfg)
    train(expected, whole, batches, loss_of)
    first = build_optim_wrapper(model, cfg)
    train(model, first, batches[:5], loss_of)
    state = copy.deepcopy(named_state_dict(first))
    before = copy.deepcopy(state)
    first.zero_grad()
    second = build_optim_wrapper(model, cfg)
    second.initialize_count_status(model, 5, 9)
    load_named_state_dict(second, state)
    train(model, second, batches[5:], loss_of)
    assert_equal(model, expected)
    torch.testing.assert_close(state["state"], before["state"], rtol=0, atol=0)


def test_new_and_left_over_names_are_listed(twins, batches, loss_of, caplog):
    model, other = twins
    first = build_optim_wrapper(model, PLAIN)
    train(model, first, batches[:1], loss_of)
    other[4] = nn.Sequential(nn.Linear(8, 3))
    unmatched = load_named_state_dict(build_optim_wrapper(other, PLAIN), named_state_dict(first))
    assert unmatched.new == ("4.0.weight", "4.0.bias")
    assert unmatched.left_over == ("4.weight", "4.bias")
    assert "4.0.weight" in caplog.text


OTHER_HEAD = {**HYBRID, "head": ["0"]}
HYBRID_AMP = {**HYBRID, "_target_": "optwrap.optim.AmpOptimWrapper", "dtype": "float16", "loss_scale": 8}


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        (PLAIN, {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}}, "all"),
        (HYBRID, PLAIN, {"0.weight", "2.weight"}),
        (HYBRID, OTHER_HEAD, {"0.weight"}),
    ],
)
def test_state_of_another_class_of_optimizer_is_dropped_and_listed(before, after, moved, twins, batches, loss_of):
    model, _ = twins
    first = build_optim_wrapper(model, before)
    train(model, first, batches[:2], loss_of)
    kept = moments(first)
    second = build_optim_wrapper(model, after)
    unmatched = load_named_state_dict(second, named_state_dict(first))
    moved = {name for name, _ in model.named_parameters()} if moved == "all" else moved
    assert set(unmatched.new) == set(unmatched.left_over) == moved
    assert moments(second).keys() == kept.keys() - moved
    train(model, second, batches[2:4], loss_of)  # neither misses anything in its state


@pytest.mark.parametrize(("before", "after"), [(HYBRID_AMP, HYBRID), (HYBRID, HYBRID_AMP), (AMP, PLAIN)])
def test_a_run_resumes_with_and_without_amp(before, after, twins, batches, loss_of):
    model, _ = twins
    first = build_optim_wrapper(model, before)
    train(model, first, batches[:3], loss_of)
    second = build_optim_wrapper(model, after)
    assert not load_named_state_dict(second, named_state_dict(first))
    torch.testing.assert_close(moments(second), moments(first), rtol=0, atol=0)
    train(model, second, batches[3:4], loss_of)


def test_one_wrapper_and_several_do_not_fit(twins):
    single = build_optim_wrapper(twins[0], PLAIN)
    cfg = {"constructor": "optwrap.optim.MultiOptimWrapperConstructor"}
    several = build_optim_wrapper(nn.ModuleDict({"gen": nn.Linear(1, 1)}), {**cfg, "gen": PLAIN})
    with pytest.raises(KeyError, match=r"The checkpoint has a single wrapper, this run the wrappers \['gen'\]"):
        load_named_state_dict(several, named_state_dict(single))
    with pytest.raises(KeyError, match=r"The checkpoint has the wrappers \['gen'\], this run a single one"):
        load_named_state_dict(single, named_state_dict(several))


def test_several_wrappers_are_nested_by_name(batches, loss_of):
    model = nn.ModuleDict({"gen": nn.Linear(4, 3), "disc": nn.Linear(4, 3)})
    cfg = {"constructor": "optwrap.optim.MultiOptimWrapperConstructor", "gen": PLAIN, "disc": PLAIN}
    wrappers = build_optim_wrapper(model, cfg)
    train(model["gen"], wrappers["gen"], batches[:2], loss_of)
    state = named_state_dict(wrappers)
    other = build_optim_wrapper(copy.deepcopy(model), cfg)
    assert not load_named_state_dict(other, state)
    torch.testing.assert_close(moments(other["gen"]), moments(wrappers["gen"]))
    with pytest.raises(KeyError, match="critic"):
        load_named_state_dict(other, {"gen": state["gen"], "critic": state["disc"]})


def test_hyperparameters_come_from_the_checkpoint_where_asked_for(twins):
    first = build_optim_wrapper(twins[0], {"optimizer": {**ADAMW, "lr": 0.5}})
    second = build_optim_wrapper(twins[1], PLAIN)
    load_named_options(second, named_state_dict(first))
    assert second.get_lr() == {"lr": [0.5]}


def test_hyperparameters_that_one_group_cannot_hold_are_an_error(twins):
    state = named_state_dict(build_optim_wrapper(twins[0], PARAMWISE))
    with pytest.raises(ValueError, match="different hyperparameters"):
        load_named_options(build_optim_wrapper(twins[1], PLAIN), state)


def test_groups_without_names_are_an_error(twins):
    with pytest.raises(ValueError, match="param_names"):
        named_state_dict(OptimWrapper(SGD(twins[0].parameters(), lr=0.1)))
