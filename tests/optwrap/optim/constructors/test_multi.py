import copy

import pytest
import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import (
    AmpOptimWrapper,
    OptimWrapper,
    OptimWrapperDict,
    build_optim_wrapper,
    load_named_state_dict,
    named_state_dict,
)
from optwrap.optim.named_state import evaluated_weights

MULTI = "optwrap.optim.MultiOptimWrapperConstructor"
SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.01}
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.2}


@pytest.fixture
def model():
    return nn.ModuleDict(
        {
            "gen": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)),
            "nets": nn.ModuleDict({"disc": nn.Linear(2, 1)}),
        }
    )


def build(model, **cfg):
    return build_optim_wrapper(model, {"constructor": MULTI, **cfg})


def test_each_submodule_has_its_own_kind_of_wrapper(model):
    wrappers = build(
        model,
        gen={"optimizer": SGD, "clip_grad": {"max_norm": 1}, "paramwise_cfg": {"norm_decay_mult": 0}},
        **{
            "nets.disc": {"_target_": "optwrap.optim.AmpOptimWrapper", "optimizer": ADAM, "accumulative_counts": 2}
        },
    )
    assert isinstance(wrappers, OptimWrapperDict)
    assert type(wrappers["gen"]) is OptimWrapper
    assert type(wrappers["nets.disc"]) is AmpOptimWrapper
    assert wrappers["nets.disc"].accumulative_counts == 2
    assert wrappers.get_lr() == {"gen.lr": [0.1, 0.1], "nets.disc.lr": [0.2]}
    assert {a.name: a.options["weight_decay"] for a in wrappers["gen"].assignments} == {
        "gen.0.weight": 0.01,
        "gen.0.bias": 0.01,
        "gen.1.weight": 0.0,
        "gen.1.bias": 0.0,
    }


def test_a_step_of_one_leaves_the_other_alone(model):
    wrappers = build(model, gen={"optimizer": SGD}, nets={"optimizer": SGD})
    before = {name: param.clone() for name, param in model.named_parameters()}
    wrappers["nets"].update_params(model["nets"]["disc"](model["gen"](torch.randn(4, 2))).sum())
    changed = {name for name, param in model.named_parameters() if not torch.equal(param, before[name])}
    assert changed == {"nets.disc.weight", "nets.disc.bias"}


def test_other_fields_of_the_schema_left_at_off_are_no_wrappers(model):
    paramwise_cfg = {"norm_decay_mult": None, "custom_keys": {}, "strict": True, "bypass_duplicate": False}
    off = {"accumulative_counts": 1, "clip_grad": {"max_norm": None}, "optimizer": "???"}
    off["paramwise_cfg"] = paramwise_cfg
    wrappers = build(model, gen={"optimizer": SGD}, nets={"optimizer": SGD}, **off)
    assert list(wrappers) == ["gen", "nets"]


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({}, "needs a config a submodule"),
        ({"gen": {"optimizer": SGD}}, "nets.disc.weight is in no wrapper"),
        ({"genn": {"optimizer": SGD}}, "no submodule 'genn'.*'gen'"),
        ({"gen": {"optimizer": SGD}, "nets": {"optimizer": SGD}, "nets.disc": {"optimizer": SGD}},
         "nets.disc.weight is in two|disc.weight is in two"),
        ({"gen": {"optimizer": {**SGD, "rl": 1}}, "nets": {"optimizer": SGD}}, "optim_wrapper.gen.optimizer.rl"),
        ({"gen": {"optimizer": SGD}, "paramwise_cfg": {"norm_decay_mult": 0}},
         "paramwise_cfg.norm_decay_mult=0: .*below the wrapper.*optim_wrapper.gen.paramwise_cfg.norm_decay_mult"),
        ({"gen": {"optimizer": SGD}, "accumulative_counts": 4}, "accumulative_counts=4: several"),
        ({"gen": {"optimizer": SGD}, "clip_grad": {"max_norm": 1}}, "clip_grad.max_norm=1: several"),
        ({"gen": {"optimizer": SGD}, "optimizer": SGD}, "optim_wrapper.optimizer="),
        ({"gen": {"optimizer": SGD}, "_target_": "optwrap.optim.AmpOptimWrapper"}, "optim_wrapper._target_="),
        ({"gen": {}, "nets": {"optimizer": SGD}}, r"optim_wrapper.gen.optimizer is not set.*optim_wrapper/gen=\["),
        ({"gen": {"optimizer": {"lr": 1}}, "nets": {"optimizer": SGD}}, r"gen.optimizer={'lr': 1}.*/gen=\["),
    ],
)  # fmt: skip
def test_errors_name_the_wrapper_or_the_parameter(cfg, said, model):
    with pytest.raises(ConfigError, match=said):
        build(model, **cfg)


class Towers(nn.Module):
    """Two towers and a scale that the model itself holds, as CLIP."""

    def __init__(self):
        super().__init__()
        self.text, self.image = nn.Linear(2, 2), nn.Linear(2, 2)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return (self.logit_scale * self.text(x) * self.image(x)).sum()


def test_a_parameter_of_the_model_itself_has_a_wrapper_under_its_name(assert_equal):
    model, data = Towers(), torch.ones(3, 2)
    cfg = {"optimizer": SGD, "averaging": {"kind": "ema", "decay": 0.5}}
    wrappers = build(model, text=cfg, image=cfg, logit_scale={**cfg, "clip_grad": {"max_norm": 0.1}})
    assert [each.name for each in wrappers["logit_scale"].assignments] == ["logit_scale"]
    for wrapper in wrappers.values():
        wrapper.initialize_count_status(model, 0, 2)
    by_hand = copy.deepcopy(model)
    optimizer = torch.optim.SGD([by_hand.logit_scale], lr=0.1, weight_decay=0.01)
    for _ in range(2):
        wrappers["logit_scale"].update_params(model(data))
        wrappers["text"].zero_grad()
        wrappers["image"].zero_grad()
        by_hand(data).backward()
        torch.nn.utils.clip_grad_norm_([by_hand.logit_scale], 0.1)
        optimizer.step()
        by_hand.zero_grad()
    assert_equal(model, by_hand)
    state = named_state_dict(wrappers)
    assert set(evaluated_weights(state)) == {"logit_scale"}
    other = build(model, text=cfg, image=cfg, logit_scale=cfg)
    assert not load_named_state_dict(other, state)


def test_a_parameter_that_no_wrapper_owns_is_an_error_that_says_how():
    with pytest.raises(
        ConfigError, match=r"logit_scale is in no wrapper .*for the parameter itself under this name"
    ):
        build(Towers(), text={"optimizer": SGD}, image={"optimizer": SGD})
    with pytest.raises(ConfigError, match=r"no submodule 'logit_scal', and no parameter.*'logit_scale'"):
        build(Towers(), text={"optimizer": SGD}, image={"optimizer": SGD}, logit_scal={"optimizer": SGD})


@pytest.mark.slow
def test_the_parts_of_clip_have_a_wrapper_each():
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(transformers.CONFIG_MAPPING["clip"]())
    parts = ("text_model", "vision_model", "visual_projection", "text_projection", "logit_scale")
    wrappers = build(model, **{part: {"optimizer": ADAM} for part in parts})
    names = {each.name for wrapper in wrappers.values() for each in wrapper.assignments}
    assert names == {name for name, _ in model.named_parameters()}


def test_frozen_parameters_need_no_wrapper(model):
    model["nets"].requires_grad_(False)
    assert list(build(model, gen={"optimizer": SGD})) == ["gen"]


def test_a_wrapper_without_trainable_parameters_is_named(model):
    model["gen"].requires_grad_(False)
    with pytest.raises(ConfigError, match=r"optim_wrapper\.gen: The model has no trainable parameter"):
        build(model, gen={"optimizer": SGD}, nets={"optimizer": SGD})


def test_names_are_those_of_the_model_inside_parallel_wrappers(model):
    wrappers = build(nn.DataParallel(model), gen={"optimizer": SGD}, **{"nets.disc": {"optimizer": SGD}})
    assert {each.name for each in wrappers["nets.disc"].assignments} == {"nets.disc.weight", "nets.disc.bias"}
