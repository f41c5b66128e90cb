"""Layers that come, or are unfrozen, after the wrapper was built."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD

from optwrap.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict, build_optim_wrapper

CFG = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}


def net():
    return nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 1)})


def gan():
    return nn.ModuleDict({"generator": net(), "discriminator": net()})


MULTI = {
    "constructor": "optwrap.optim.MultiOptimWrapperConstructor",
    "generator": CFG,
    "discriminator": CFG,
}


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.message.startswith("Not trained")]


@pytest.mark.parametrize("kind", [OptimWrapper, AmpOptimWrapper])
def test_a_replaced_head_is_named_once(kind, caplog):
    model = net()
    optim_wrapper = kind(SGD(model.parameters(), lr=0.1))
    model["head"] = nn.Linear(2, 3)
    for _ in range(3):
        with optim_wrapper.optim_context(model):
            pass
        optim_wrapper.initialize_count_status(model, 0, 10)
    (message,) = warnings_of(caplog)
    assert ": head.weight, head.bias. Replace" in message


def test_an_unfrozen_layer_is_named(caplog):
    model = net()
    model["body"].requires_grad_(False)
    optim_wrapper = build_optim_wrapper(model, CFG)
    with optim_wrapper.optim_context(model):
        pass
    assert warnings_of(caplog) == []
    model["body"].weight.requires_grad_(True)
    optim_wrapper.initialize_count_status(model, 0, 10)
    (message,) = warnings_of(caplog)
    assert ": body.weight. Replace" in message


def test_a_layer_that_was_added_to_the_optimizer_is_trained(caplog):
    model = net()
    optim_wrapper = OptimWrapper(SGD(model["body"].parameters(), lr=0.1))
    optim_wrapper.optimizer.add_param_group({"params": list(model["head"].parameters())})
    with optim_wrapper.optim_context(model):
        pass
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("part", [None, "generator", "discriminator"])
def test_wrappers_of_a_dict_answer_for_each_others_parameters(part, caplog):
    model = gan()
    optim_wrapper = build_optim_wrapper(model, MULTI)
    optim_wrapper.initialize_count_status(model, 0, 10)
    for wrapper in optim_wrapper.values():
        with wrapper.optim_context(model if part is None else model[part]):
            pass
    assert warnings_of(caplog) == []


def test_a_gan_names_a_replaced_head_once(caplog):
    model = gan()
    optim_wrapper = build_optim_wrapper(model, MULTI)
    model["generator"]["head"] = nn.Linear(2, 3)
    optim_wrapper.initialize_count_status(model, 0, 10)
    for name, wrapper in optim_wrapper.items():
        with wrapper.optim_context(model[name]):
            pass
    (message,) = warnings_of(caplog)
    assert ": generator.head.weight, generator.head.bias. Replace" in message


def test_a_model_of_which_nothing_is_trained_is_someone_elses(caplog):
    model = gan()
    optim_wrapper = OptimWrapper(SGD(model["generator"].parameters(), lr=0.1))
    with optim_wrapper.optim_context(model["discriminator"]):
        pass
    assert warnings_of(caplog) == []


def test_frozen_parameters_are_not_named_and_many_are_counted(caplog):
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(12)))
    model[11].requires_grad_(False)
    optim_wrapper = OptimWrapper(SGD(model[0].parameters(), lr=0.1))
    with optim_wrapper.optim_context(model):
        pass
    (message,) = warnings_of(caplog)
    assert "7.weight, 8.weight and 2 more. Replace" in message


def test_a_copied_pair_of_model_and_wrappers_looks_at_its_own(caplog):
    model = gan()
    model, optim_wrapper = copy.deepcopy((model, build_optim_wrapper(model, MULTI)))
    optim_wrapper.initialize_count_status(model, 0, 10)
    assert warnings_of(caplog) == []
    optim_wrapper["generator"].update_params(model["generator"]["body"](torch.ones(1, 2)).sum())
    assert isinstance(optim_wrapper, OptimWrapperDict)
