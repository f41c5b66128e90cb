"""`paramwise_cfg` that is no mapping, options that only the optimizer can know, names that are left out."""

import copy

import pytest
import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import build_optim_wrapper, load_named_state_dict, named_state_dict
from optwrap.optim.assignment.table import format_table, table

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.1, "momentum": 0.9}
LAYER_DECAY = "optwrap.optim.LayerDecayOptimWrapperConstructor"


def build(model, paramwise_cfg, **more):
    return build_optim_wrapper(model, {"optimizer": SGD, "paramwise_cfg": paramwise_cfg, **more})


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        (["a"], r"optim_wrapper.paramwise_cfg=\['a'\]: it is a mapping of fields, such as"),
        ("norm", "optim_wrapper.paramwise_cfg='norm': it is a mapping of fields"),
        ({"custom_keys": ["a"]}, r"paramwise_cfg.custom_keys=\['a'\]: it maps parts of names to options"),
        ({"custom_keys": "a"}, "paramwise_cfg.custom_keys='a': it maps parts of names to options"),
    ],
)
@pytest.mark.parametrize("more", [{}, {"constructor": LAYER_DECAY}])
def test_what_is_no_mapping_is_one_message_that_names_the_key(cfg, said, more):
    if more and isinstance(cfg, dict):
        cfg = {**cfg, "decay_factor": 0.5}
    with pytest.raises(ConfigError, match=said):
        build(nn.Linear(1, 1), cfg, **more)


class ReadsTags(torch.optim.SGD):
    """Leaves alone what has the tag, as LARS with `lars_exclude` does in its own way."""

    def step(self, closure=None):
        for group in self.param_groups:
            if group.get("fix"):
                for param in group["params"]:
                    param.grad = None
        return super().step(closure)


def test_a_tag_that_only_the_optimizer_reads_goes_into_its_group_where_nothing_is_strict(caplog):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    cfg = {"optimizer": {**SGD, "_target_": ReadsTags}}
    rules = {"custom_keys": {"0.": {"fix": True, "decay_mult": 0}}}
    with pytest.raises(ConfigError, match="the optimizer has no option 'fix'"):
        build_optim_wrapper(copy.deepcopy(model), {**cfg, "paramwise_cfg": rules})
    wrapper = build_optim_wrapper(model, {**cfg, "paramwise_cfg": {**rules, "strict": False}})
    assert "custom_keys.0..fix: the optimizer has no such option; it goes into the param group" in caplog.text
    before = copy.deepcopy(model.state_dict())
    wrapper.update_params(model(torch.ones(3, 2)).square().mean())
    changed = {name: not torch.equal(before[name], value) for name, value in model.state_dict().items()}
    assert changed == {"0.weight": False, "0.bias": False, "1.weight": True, "1.bias": True}
    again = build_optim_wrapper(copy.deepcopy(model), {**cfg, "paramwise_cfg": {**rules, "strict": False}})
    load_named_state_dict(again, named_state_dict(wrapper))
    assert [group.get("fix") for group in again.param_groups] == [True, None]


def test_without_strict_a_factor_on_a_decay_that_is_not_there_stays_an_error():
    rules = {"custom_keys": {"weight": {"decay_mult": 0}}, "strict": False}
    cfg = {"optimizer": {"_target_": "torch.optim.Rprop", "lr": 0.1}, "paramwise_cfg": rules}
    with pytest.raises(ConfigError, match="no weight decay to multiply"):
        build_optim_wrapper(nn.Linear(1, 1), cfg)


def test_names_that_are_left_out_stand_in_the_table_and_are_warned_of(caplog):
    model = nn.ModuleDict({"embedding": nn.Embedding(3, 2), "head": nn.Linear(2, 3)})
    model["head"].weight = model["embedding"].weight
    wrapper = build(model, {"bypass_duplicate": True, "norm_decay_mult": 0.0, "bias_lr_mult": 2})
    rows = {row["name"]: row.get("aliases") for row in table(wrapper.assignments)}
    assert rows == {"embedding.weight": "head.weight", "head.bias": None}
    assert "head.weight" in format_table(wrapper.assignments)
    assert "head.weight is left out: embedding.weight decides." in caplog.text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, True),
        ({"norm_decay_mult": 0.5}, False),
        ({"custom_keys": {"norm.bias": {"decay_mult": 0}}}, False),
    ],
)
def test_that_biases_of_norms_are_none_is_said_where_nothing_else_decides(more, said, caplog):
    caplog.set_level("INFO")
    model = nn.ModuleDict({"layer": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})
    wrapper = build(model, {"bias_decay_mult": 0, **more})
    assert (
        "bias_decay_mult=0 is not for the biases of norm layers, such as 'norm.bias' (1" in caplog.text
    ) is said
    decay = {each.name: each.options["weight_decay"] for each in wrapper.assignments}
    assert decay["norm.bias"] == pytest.approx(0.1 if said else 0.05 if "norm_decay_mult" in more else 0)


def test_a_key_that_begins_with_a_dot_is_of_the_models_own_parameters_too():
    model = nn.ModuleDict(
        {"cls": nn.Linear(2, 2), "inner": nn.ParameterDict({"cls": nn.Parameter(torch.ones(2))})}
    )
    model.register_parameter("cls_token", nn.Parameter(torch.ones(2)))
    wrapper = build(model, {"custom_keys": {".cls": {"decay_mult": 0}}})
    decay = {each.name: each.options["weight_decay"] for each in wrapper.assignments}
    assert decay == {"cls_token": 0, "cls.weight": 0.1, "cls.bias": 0.1, "inner.cls": 0}
