import copy
import functools

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import (
    AmpOptimWrapper,
    Assignment,
    DefaultOptimWrapperConstructor,
    OptimWrapper,
    build_optim_wrapper,
    walk,
)

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.01}


class OptimizerWithOtherNames(torch.optim.Optimizer):
    """Its parameters are not called `params`, and its options are its own."""

    def __init__(self, weights, speed=1.0):
        super().__init__(weights, {"speed": speed})


def function_constructor(model, optim_wrapper_cfg, paramwise_cfg, scale=1.0):
    assert paramwise_cfg == {"note": 1}
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=optim_wrapper_cfg["optimizer"]["lr"] * scale))


class HalfLr(DefaultOptimWrapperConstructor):
    def assign(self, model, base):
        return [Assignment(p.name, p.tensor, {"lr": base["lr"] / 2}, "half") for p in walk(model)]


def test_a_dictconfig_gives_the_same_as_a_dict(toy_model):
    cfg = {"optimizer": SGD, "accumulative_counts": 2, "paramwise_cfg": {"norm_decay_mult": 0}}
    first = build_optim_wrapper(toy_model, cfg)
    second = build_optim_wrapper(toy_model, OmegaConf.create(cfg))
    assert [(g["param_names"], g["weight_decay"]) for g in first.param_groups] == [
        (g["param_names"], g["weight_decay"]) for g in second.param_groups
    ]
    assert second.accumulative_counts == 2


def test_inputs_are_never_modified(toy_model):
    cfg = {
        "_target_": "optwrap.optim.AmpOptimWrapper",
        "optimizer": SGD,
        "clip_grad": {"type": "norm", "max_norm": 1},
        "paramwise_cfg": {"custom_keys": {"head": {"lr_mult": 0.1}}},
        "constructor": "optwrap.optim.DefaultOptimWrapperConstructor",
    }
    before = copy.deepcopy(cfg)
    build_optim_wrapper(toy_model, cfg)
    assert cfg == before
    dictconfig = OmegaConf.create(before)
    build_optim_wrapper(toy_model, dictconfig)
    assert OmegaConf.to_container(dictconfig) == before


def test_null_members_mean_off(toy_model):
    cfg = {
        "optimizer": SGD,
        "clip_grad": {"type": None, "max_norm": None, "clip_value": None},
        "paramwise_cfg": {"norm_decay_mult": None, "custom_keys": {}},
        "constructor": None,
    }
    optim_wrapper = build_optim_wrapper(toy_model, cfg)
    assert optim_wrapper.clip_grad is None
    assert len(optim_wrapper.param_groups) == 1


def test_the_assignment_is_kept_with_the_wrapper(toy_model):
    optim_wrapper = build_optim_wrapper(toy_model, {"optimizer": SGD, "paramwise_cfg": {"norm_decay_mult": 0}})
    rules = {a.name: a.rule for a in optim_wrapper.assignments}
    assert rules.keys() == dict(toy_model.named_parameters()).keys()
    assert rules["head.bn.weight"] == "norm_decay_mult"


def test_groups_name_their_parameters_in_state_dicts_too(toy_model):
    state = build_optim_wrapper(toy_model, {"optimizer": SGD}).state_dict()
    assert state["param_groups"][0]["param_names"] == [name for name, _ in toy_model.named_parameters()]


def test_weight_decay_left_out_is_the_optimizers_own(toy_model):
    cfg = {"optimizer": {"_target_": "torch.optim.AdamW"}, "paramwise_cfg": {"norm_decay_mult": 0.5}}
    groups = build_optim_wrapper(toy_model, cfg).param_groups
    assert [group["weight_decay"] for group in groups] == [0.01, 0.005]


@pytest.mark.parametrize(
    "optimizer", [{"_target_": "torch.optim.SGD", "lr": 0.1}, {"_target_": "torch.optim.LBFGS"}]
)
def test_a_decay_factor_without_weight_decay_is_an_error(optimizer, toy_model):
    with pytest.raises(ConfigError, match=r"norm_decay_mult=0: the optimizer has no weight decay"):
        build_optim_wrapper(toy_model, {"optimizer": optimizer, "paramwise_cfg": {"norm_decay_mult": 0}})


def test_parameters_are_the_optimizers_first_argument_whatever_its_name(toy_model):
    cfg = {"optimizer": {"_target_": OptimizerWithOtherNames, "speed": 2.0}}
    (group,) = build_optim_wrapper(toy_model, cfg).param_groups
    assert group["speed"] == 2.0
    assert len(group["params"]) == 8


def test_custom_keys_set_options_of_any_optimizer(toy_model):
    cfg = {
        "optimizer": {"_target_": OptimizerWithOtherNames},
        "paramwise_cfg": {"custom_keys": {"head": {"speed": 3.0}}},
    }
    groups = build_optim_wrapper(toy_model, cfg).param_groups
    assert {g["speed"] for g in groups} == {1.0, 3.0}


@pytest.mark.parametrize("constructor", [HalfLr, {"_target_": HalfLr}])
def test_a_constructor_class_is_a_subclass_that_assigns(constructor, toy_model):
    groups = build_optim_wrapper(toy_model, {"optimizer": SGD, "constructor": constructor}).param_groups
    assert [group["lr"] for group in groups] == [0.05]


@pytest.mark.parametrize(
    ("constructor", "lr"),
    [
        (function_constructor, 0.1),
        (functools.partial(function_constructor, scale=2.0), 0.2),
        ({"_target_": function_constructor, "scale": 3.0}, 0.3),
    ],
)
def test_a_constructor_may_be_a_function(constructor, lr, toy_model):
    cfg = {"optimizer": SGD, "constructor": constructor, "paramwise_cfg": {"note": 1}}
    optim_wrapper = build_optim_wrapper(toy_model, cfg)
    assert optim_wrapper.get_lr()["lr"] == [pytest.approx(lr)]
    assert optim_wrapper.param_groups[0]["param_names"] == [name for name, _ in toy_model.named_parameters()]


def test_what_a_function_built_is_listed_by_name_too(toy_model):
    def half(model, optim_wrapper_cfg, paramwise_cfg):
        groups = [{"params": model.head.parameters(), "lr": 0.5}, {"params": model.backbone.parameters()}]
        return OptimWrapper(torch.optim.SGD(groups, lr=0.25, weight_decay=0.1))

    assignments = build_optim_wrapper(toy_model, {"constructor": half}).assignments
    assert {each.name: each.options["lr"] for each in assignments} == {
        name: 0.5 if name.startswith("head") else 0.25 for name, _ in toy_model.named_parameters()
    }
    assert {each.options["weight_decay"] for each in assignments} == {0.1}


def test_a_constructor_that_returns_no_wrapper_is_an_error(toy_model):
    with pytest.raises(ConfigError, match=r"optim_wrapper.constructor: .* returned None"):
        build_optim_wrapper(toy_model, {"constructor": lambda model, cfg, paramwise_cfg: None})


def test_a_wrapper_subclass_is_built_with_its_own_arguments(toy_model):
    class Noisy(OptimWrapper):
        def __init__(self, optimizer, noise, **kwargs):
            super().__init__(optimizer, **kwargs)
            self.noise = noise

    cfg = {"_target_": Noisy, "optimizer": SGD, "noise": 0.5, "accumulative_counts": 3}
    optim_wrapper = build_optim_wrapper(toy_model, cfg)
    assert (optim_wrapper.noise, optim_wrapper.accumulative_counts) == (0.5, 3)


def test_amp_arguments_reach_the_amp_wrapper(toy_model):
    cfg = {
        "_target_": "optwrap.optim.AmpOptimWrapper",
        "optimizer": SGD,
        "loss_scale": {"init_scale": 8.0},
        "dtype": "float16",
    }
    optim_wrapper = build_optim_wrapper(toy_model, OmegaConf.create(cfg))
    assert isinstance(optim_wrapper, AmpOptimWrapper)
    assert optim_wrapper.state_dict()["loss_scaler"]["scale"] == 8


def test_wrapped_models_are_matched_by_their_plain_names(toy_model):
    cfg = {"optimizer": SGD, "paramwise_cfg": {"custom_keys": {"head": {"lr_mult": 0.1}}}}
    plain = build_optim_wrapper(toy_model, cfg)
    compiled = build_optim_wrapper(torch.compile(toy_model), cfg)
    assert [g["param_names"] for g in plain.param_groups] == [g["param_names"] for g in compiled.param_groups]


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({}, "optim_wrapper.optimizer is not set"),
        ({"optimizer": "???"}, "optim_wrapper.optimizer is not set"),
        ({"optimizer": {"type": "SGD", "lr": 0.1}}, "_target_"),
        ({"optimizer": {**SGD, "_target_": "torch.optim.SDG"}}, "'SGD'"),
        ({"optimizer": {**SGD, "_target_": "torhc.optim.SGD"}}, "torhc"),
        ({"optimizer": {**SGD, "momentm": 0.9}}, "optim_wrapper.optimizer.momentm.*'momentum'"),
        ({"optimizer": {**SGD, "lr": -1.0}}, "optim_wrapper.optimizer.lr=-1.0: Invalid learning rate"),
        ({"optimizer": {**SGD, "lr": "???"}}, "optim_wrapper.optimizer.lr is not set"),
        ({"optimizer": 3}, "optim_wrapper.optimizer=3"),
        ({"optimizer": "adamw"}, "optim_wrapper=adamw"),
        (
            {"optimizer": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}},
            "optim_wrapper.optimizer",
        ),
        ({"optimizer": {"_target_": "torch.nn.Identity"}}, "this is no torch.optim.Optimizer"),
        ({"optimizer": {**SGD, "lr": "fast"}}, "optim_wrapper.optimizer"),
        ({"optimizer": SGD, "clip_grad": 5}, "optim_wrapper.clip_grad=5"),
        ({"optimizer": SGD, "acumulative_counts": 2}, "'accumulative_counts'"),
        ({"optimizer": SGD, "loss_scale": 512}, "loss_scale.*Add amp"),
        ({"optimizer": SGD, "_target_": "optwrap.optim.AmpWrapper"}, "'AmpOptimWrapper'"),
        ({"optimizer": SGD, "clip_grad": {"max_nrom": 1}}, "optim_wrapper.clip_grad.max_nrom.*'max_norm'"),
        ({"optimizer": SGD, "accumulative_counts": 0}, "optim_wrapper.accumulative_counts=0"),
        ({"optimizer": SGD, "constructor": "optwrap.optim.DefaultConstructor"}, "optim_wrapper.constructor"),
        ({"optimizer": SGD, "paramwise_cfg": {"custom_keys": {"haed": {"lr_mult": 1}}}}, "'head'"),
        (5, "optim_wrapper=5"),
    ],
)
def test_errors_name_the_key_and_the_remedy(cfg, said, toy_model):
    with pytest.raises(ConfigError, match=said):
        build_optim_wrapper(toy_model, cfg)


def test_a_wrapper_of_ones_own_with_amp_is_told_what_to_derive_from(toy_model):
    class Mine(OptimWrapper):
        pass

    with pytest.raises(ConfigError, match=r"loss_scale: Mine has no argument.*derive it from \S*AmpOptimWrapper"):
        build_optim_wrapper(toy_model, {"optimizer": SGD, "_target_": Mine, "loss_scale": 512})


def test_a_model_without_trainable_parameters_is_an_error(toy_model):
    with pytest.raises(ConfigError, match="no trainable parameter"):
        build_optim_wrapper(toy_model.requires_grad_(False), {"optimizer": SGD})


def test_a_lazy_model_is_an_error_until_it_has_shapes():
    model = nn.LazyLinear(2)
    with pytest.raises(ConfigError, match="lazy"):
        build_optim_wrapper(model, {"optimizer": SGD})
    model(torch.ones(1, 3))
    assert len(build_optim_wrapper(model, {"optimizer": SGD}).assignments) == 2


def test_a_number_between_quotes_is_named(toy_model):
    cfg = {"optimizer": {"_target_": "torch.optim.SGD", "lr": "1e-3"}}
    with pytest.raises(ConfigError, match=r"optim_wrapper\.optimizer\.lr='1e-3' is a text: leave its quotes out"):
        build_optim_wrapper(toy_model, cfg)


def test_a_momentum_that_adds_up_without_end_is_a_warning(toy_model, caplog):
    build_optim_wrapper(toy_model, {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 2}})
    assert [record.getMessage() for record in caplog.records] == [
        "optim_wrapper: a momentum of 2 adds up all gradients without end."
    ]


class Spares(nn.Module):
    def __init__(self):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 3, 2))
        self.scale = nn.Parameter(torch.ones(()))
        self.body, self.norm = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]), nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 3)

    def no_weight_decay(self):
        return {"pos_embed"}


@pytest.mark.parametrize(
    "constructor",
    [
        {},
        {"constructor": "optwrap.optim.LayerDecayOptimWrapperConstructor", "extra": {"decay_factor": 0.5}},
        {
            "constructor": "optwrap.optim.HybridOptimWrapperConstructor",
            "hidden_optimizer": {"_target_": "torch.optim.Muon", "lr": 0.1, "weight_decay": 0.1},
        },
    ],
    ids=["default", "layer_decay", "hybrid"],
)
def test_no_decay_1d_has_one_meaning_for_every_constructor(constructor):
    cfg = dict(constructor)
    paramwise = {"no_decay_1d": True, "custom_keys": {"head.bias": {"decay_mult": 1}}} | cfg.pop("extra", {})
    optimizer = {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.1}
    wrapper = build_optim_wrapper(Spares(), {"optimizer": optimizer, "paramwise_cfg": paramwise, **cfg})
    decayed = {each.name for each in wrapper.assignments if each.options["weight_decay"]}
    assert decayed == {"body.0.weight", "body.1.weight", "head.weight", "head.bias"}
    rules = {each.name: each.rule for each in wrapper.assignments}
    assert "no_weight_decay()" in rules["pos_embed"]
    assert "no_decay_1d" in rules["scale"]


def test_a_rule_of_a_kind_comes_before_no_decay_1d():
    paramwise = {"no_decay_1d": True, "norm_decay_mult": 0.5}
    optimizer = {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.1}
    wrapper = build_optim_wrapper(Spares(), {"optimizer": optimizer, "paramwise_cfg": paramwise})
    decay = {each.name: each.options["weight_decay"] for each in wrapper.assignments}
    assert (decay["norm.weight"], decay["head.bias"]) == (0.05, 0.0)
