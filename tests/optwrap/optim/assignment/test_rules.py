import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import DeformConv2d

from optwrap.errors import ConfigError
from optwrap.optim import ParamwiseRules, assign, walk

BASE = {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9}


def options(model, base=BASE, **paramwise_cfg):
    rules = ParamwiseRules.from_config(paramwise_cfg)
    return {a.name: a for a in assign(walk(model), base, rules)}


def lr(model, name, **cfg):
    return options(model, **cfg)[name].options["lr"]


def decay(model, name, **cfg):
    return options(model, **cfg)[name].options["weight_decay"]


class Deformable(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_offset = nn.Conv2d(2, 18, 3, padding=1)
        self.conv = DeformConv2d(2, 2, 3, padding=1)


class DeformConvWithOffsetInside(DeformConv2d):
    def __init__(self):
        super().__init__(2, 2, 3)
        self.conv_offset = nn.Conv2d(2, 18, 3)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4),
        nn.BatchNorm2d(4),
        nn.BatchNorm3d(4),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm2d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.LayerNorm(4),
        nn.RMSNorm(4),
    ],
)
def test_every_norm_layer_counts_as_norm(norm):
    assert decay(norm, "weight", norm_decay_mult=0) == 0


def test_torchvision_norm_counts_as_norm():
    from torchvision.models.convnext import LayerNorm2d

    assert decay(LayerNorm2d(4), "weight", norm_decay_mult=0) == 0


def test_bias_of_a_norm_is_not_bias(toy_model):
    assert lr(toy_model, "head.bn.bias", bias_lr_mult=2) == 0.1
    assert decay(toy_model, "head.bn.bias", bias_decay_mult=0) == 0.01
    assert lr(toy_model, "head.linear.bias", bias_lr_mult=2) == 0.2
    assert decay(toy_model, "head.linear.bias", bias_decay_mult=0) == 0


@pytest.mark.parametrize("conv", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_depthwise_needs_as_many_groups_as_channels(conv):
    assert decay(conv(4, 8, 3, groups=4), "weight", dwconv_decay_mult=0) == 0
    assert decay(conv(4, 8, 3, groups=2), "weight", dwconv_decay_mult=0) == 0.01
    assert decay(conv(1, 8, 3, groups=1), "weight", dwconv_decay_mult=0) == 0.01


def test_weight_decay_goes_by_norm_then_bias_then_depthwise_then_flat():
    model = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, groups=4))
    every = {"norm_decay_mult": 2, "bias_decay_mult": 3, "dwconv_decay_mult": 4, "flat_decay_mult": 5}
    got = {name: a.rule for name, a in options(model, **every).items()}
    assert got == {
        "0.weight": "norm_decay_mult",
        "0.bias": "norm_decay_mult",
        "1.weight": "dwconv_decay_mult",
        "1.bias": "bias_decay_mult",
    }
    del every["norm_decay_mult"], every["bias_decay_mult"]
    got = {name: a.rule for name, a in options(model, **every).items()}
    assert got["0.weight"] == got["0.bias"] == "flat_decay_mult"
    assert got["1.bias"] == "dwconv_decay_mult"


@pytest.mark.parametrize(("model", "prefix"), [(Deformable(), ""), (DeformConvWithOffsetInside(), "")])
def test_offset_conv_beside_or_inside_a_deformable_conv(model, prefix):
    for name in ("conv_offset.weight", "conv_offset.bias"):
        assert lr(model, prefix + name, dcn_offset_lr_mult=0.5, bias_lr_mult=2) == 0.05
    assert decay(model, "conv_offset.bias", bias_decay_mult=0) == 0.01


def test_a_conv_offset_without_a_deformable_conv_is_a_plain_conv():
    model = nn.Sequential()
    model.add_module("conv_offset", nn.Conv2d(1, 1, 1))
    assert lr(model, "conv_offset.weight", dcn_offset_lr_mult=0.5) == 0.1
    assert lr(model, "conv_offset.bias", dcn_offset_lr_mult=0.5, bias_lr_mult=2) == 0.2


def test_a_custom_key_decides_alone(toy_model):
    cfg = {"bias_lr_mult": 2, "bias_decay_mult": 0, "custom_keys": {"head": {"lr_mult": 0.5}}}
    assert lr(toy_model, "head.linear.bias", **cfg) == 0.05
    assert decay(toy_model, "head.linear.bias", **cfg) == 0.01
    assert lr(toy_model, "backbone.layer0.bias", **cfg) == 0.2


def test_the_longest_custom_key_wins_and_ties_go_by_alphabet(toy_model):
    keys = {
        "head": {"lr_mult": 2},
        "head.bn": {"lr_mult": 3},
        "bn.weight": {"lr_mult": 5},
        "d.bn.weig": {"lr_mult": 7},
    }
    got = options(toy_model, custom_keys=keys)
    assert got["head.linear.weight"].rule == "custom_keys['head']"
    assert got["head.bn.bias"].rule == "custom_keys['head.bn']"
    assert got["head.bn.weight"].rule == "custom_keys['bn.weight']"


def test_a_custom_key_sets_options_of_the_optimizer_as_they_stand(toy_model):
    got = options(toy_model, custom_keys={"head": {"momentum": 0.5, "lr": 0.3}})
    assert got["head.bn.weight"].options == {"lr": 0.3, "weight_decay": 0.01, "momentum": 0.5}


def test_global_factors_multiply_whatever_came_out(toy_model):
    cfg = {"lr_mult": 0.5, "decay_mult": 10, "norm_decay_mult": 0.5, "custom_keys": {"layer0": {"lr_mult": 4}}}
    got = options(toy_model, **cfg)
    assert got["backbone.layer0.weight"].options == {"lr": pytest.approx(0.2), "weight_decay": pytest.approx(0.1)}
    assert got["head.bn.weight"].options == {"lr": pytest.approx(0.05), "weight_decay": pytest.approx(0.05)}
    assert got["head.bn.weight"].rule == "norm_decay_mult + lr_mult + decay_mult"


def test_frozen_parameters_are_left_out(toy_model):
    toy_model.backbone.requires_grad_(False)
    assert set(options(toy_model)) == {"head.linear.weight", "head.linear.bias", "head.bn.weight", "head.bn.bias"}


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"norm_deacy_mult": 0}, ["norm_deacy_mult=0", "'norm_decay_mult'"]),
        ({"norm_decay_mult": "zero"}, ["norm_decay_mult='zero'", "number"]),
        ({"norm_decay_mult": -1}, ["norm_decay_mult=-1"]),
        ({"lr_mult": True}, ["lr_mult=True"]),
        ({"custom_keys": {"haed": {"lr_mult": 1}}}, ["'haed'", "matches no parameter", "'head'", "strict=false"]),
        ({"custom_keys": {"head": {"momentm": 1}}}, ["custom_keys.head.momentm=1", "'momentum'"]),
        ({"custom_keys": {"head": 0.1}}, ["custom_keys.head=0.1", "lr_mult"]),
        ({"custom_keys": {"backbone": {"layer0": {"lr_mult": 0}}}}, ["literal", "{backbone.layer0: {lr_mult"]),
        ({"custom_keys": {"head": {"bias_lr_mult": 1}}}, ["head.bias_lr_mult=1"]),
        ({"bias_lr_mult": 2, "custom_keys": {"head": {"bias_lr_mult": 1}}}, ["head.bias_lr_mult=1"]),
    ],
)
def test_errors_name_the_key_the_value_and_the_remedy(toy_model, cfg, said):
    with pytest.raises(ConfigError) as error:
        options(toy_model, **cfg)
    for words in said:
        assert words in str(error.value)


def test_a_decay_factor_needs_an_optimizer_with_weight_decay(toy_model):
    with pytest.raises(ConfigError, match=r"norm_decay_mult=0.*weight_decay"):
        options(toy_model, base={"lr": 0.1}, norm_decay_mult=0)


def test_a_decay_factor_on_zero_weight_decay_is_a_warning(toy_model, caplog):
    options(toy_model, base={"lr": 0.1, "weight_decay": 0}, norm_decay_mult=0)
    assert "norm_decay_mult" in caplog.text


def test_not_strict_turns_the_no_match_error_into_a_warning(toy_model, caplog):
    with caplog.at_level(logging.WARNING):
        options(toy_model, custom_keys={"haed": {"lr_mult": 1}}, strict=False)
    assert "'haed' matches no parameter" in caplog.text


def test_a_key_that_matches_only_frozen_parameters_says_so(toy_model):
    toy_model.backbone.requires_grad_(False)
    with pytest.raises(ConfigError, match="only frozen"):
        options(toy_model, custom_keys={"backbone": {"lr_mult": 1}})


def tied():
    model = nn.Module()
    model.embedding, model.head = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
    model.head.weight = model.embedding.weight
    return model


def test_tied_weights_are_an_error_that_names_both_and_the_option():
    with pytest.raises(ConfigError, match=r"'embedding.weight'.*'head.weight'.*bypass_duplicate"):
        options(tied(), custom_keys={"head": {"lr_mult": 1}})


def test_bypass_duplicate_lets_the_first_name_decide():
    got = options(tied(), bypass_duplicate=True, custom_keys={"embedding": {"lr_mult": 2}})
    assert got["embedding.weight"].options["lr"] == 0.2


def test_tied_weights_without_rules_are_no_question():
    assert options(tied())["embedding.weight"].options["lr"] == 0.1


# Random modules and rules against a reference written straight from the contract ---------------------------

LEAVES = {
    "linear": lambda: nn.Linear(2, 2),
    "bn": lambda: nn.BatchNorm2d(2),
    "ln": lambda: nn.LayerNorm(2),
    "conv": lambda: nn.Conv2d(2, 2, 1),
    "dw": lambda: nn.Conv2d(2, 4, 1, groups=2),
    "dcn": Deformable,
    "embedding": lambda: nn.Embedding(2, 2),
}
NAMES = st.sampled_from(["a", "bias", "conv_offset", "head", "layer0", "layer01", "norm"])
TREES = st.recursive(
    st.sampled_from(sorted(LEAVES)),
    lambda children: st.dictionaries(NAMES, children, min_size=1, max_size=4),
    max_leaves=8,
)
FACTORS = st.sampled_from([None, 0, 0.5, 2])
FIELDS = (
    "lr_mult", "decay_mult", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "flat_decay_mult",
    "dwconv_decay_mult", "dcn_offset_lr_mult",
)  # fmt: skip
CUSTOM = st.dictionaries(
    st.sampled_from(["a", "head", "layer0", "layer01", "weight", "head.a", "conv"]),
    st.fixed_dictionaries({}, optional={"lr_mult": FACTORS, "decay_mult": FACTORS, "momentum": st.just(0.5)}),
    max_size=3,
)


def grow(tree):
    if isinstance(tree, str):
        return LEAVES[tree]()
    module = nn.Module()
    for name, child in tree.items():
        module.add_module(name, grow(child))
    return module


def expected_options(model, name, cfg):
    path = name.split(".")
    chain = [model]
    for part in path[:-1]:
        chain.append(getattr(chain[-1], part))
    owner, tensor = chain[-1], getattr(chain[-1], path[-1])
    norm = isinstance(owner, nn.BatchNorm2d | nn.LayerNorm)
    beside = len(chain) > 1 and any(isinstance(m, DeformConv2d) for m in [chain[-2], *chain[-2].children()])
    offset = isinstance(owner, nn.Conv2d) and len(path) > 1 and path[-2] == "conv_offset" and beside
    bias = path[-1] == "bias" and not norm and not offset
    depthwise = isinstance(owner, nn.Conv2d) and owner.groups == owner.in_channels > 1
    lr, weight_decay, extra = 0.1, 0.01, {}
    matching = [key for key in cfg["custom_keys"] if key in name]
    if matching:
        longest = max(map(len, matching))
        own = cfg["custom_keys"][min(key for key in matching if len(key) == longest)]
        lr *= 1 if own.get("lr_mult") is None else own["lr_mult"]
        weight_decay *= 1 if own.get("decay_mult") is None else own["decay_mult"]
        extra = {k: v for k, v in own.items() if k == "momentum"}
    else:
        if offset:
            lr *= 1 if cfg["dcn_offset_lr_mult"] is None else cfg["dcn_offset_lr_mult"]
        elif bias:
            lr *= 1 if cfg["bias_lr_mult"] is None else cfg["bias_lr_mult"]
        kinds = [(norm, "norm"), (bias, "bias"), (depthwise, "dwconv"), (tensor.ndim == 1, "flat")]
        set_ones = [
            cfg[f"{k}_decay_mult"] for is_kind, k in kinds if is_kind and cfg[f"{k}_decay_mult"] is not None
        ]
        weight_decay *= set_ones[0] if set_ones else 1
    lr *= 1 if cfg["lr_mult"] is None else cfg["lr_mult"]
    weight_decay *= 1 if cfg["decay_mult"] is None else cfg["decay_mult"]
    return {"lr": lr, "weight_decay": weight_decay, **extra}


@settings(max_examples=300, deadline=None)
@given(TREES, st.fixed_dictionaries(dict.fromkeys(FIELDS, FACTORS) | {"custom_keys": CUSTOM}))
def test_random_models_and_rules_agree_with_the_contract(tree, cfg):
    model = grow(tree)
    got = options(model, **cfg, strict=False)
    assert list(got) == [name for name, _ in model.named_parameters()]
    for name, assignment in got.items():
        assert assignment.options == pytest.approx(expected_options(model, name, cfg)), name
        assert torch.equal(assignment.tensor, model.get_parameter(name))


def test_parametrized_weights_belong_to_the_module_that_they_are_for():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1, groups=4))
    norm = nn.utils.parametrize
    model = nn.Sequential(conv, nn.LayerNorm(2))
    norm.register_parametrization(model[1], "weight", nn.Identity())
    got = options(model, dwconv_decay_mult=0, norm_decay_mult=0.5)
    decays = {name: a.options["weight_decay"] for name, a in got.items()}
    assert decays["0.parametrizations.weight.original0"] == decays["0.parametrizations.weight.original1"] == 0
    assert decays["1.parametrizations.weight.original"] == decays["1.bias"] == 0.005


def test_biases_of_attention_and_recurrent_layers_are_biases():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2), "lstm": nn.LSTM(2, 2)})
    lrs = {name: a.options["lr"] for name, a in options(model, bias_lr_mult=2).items()}
    assert {name for name, lr in lrs.items() if lr == 0.2} == {
        "attention.in_proj_bias",
        "attention.out_proj.bias",
        "lstm.bias_ih_l0",
        "lstm.bias_hh_l0",
    }


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"bypass_duplicate": "no"}, "bypass_duplicate='no'"),
        ({"custom_keys": {"": {"lr_mult": 1}}}, "empty key"),
        ({"custom_keys": {"head": {"lr": -5}}}, "custom_keys.head.lr=-5"),
        ({"custom_keys": {"head": {"momentum": "0.9"}}}, "custom_keys.head.momentum='0.9'"),
    ],
)
def test_values_that_the_optimizer_would_choke_on_later_are_errors_now(toy_model, cfg, said):
    with pytest.raises(ConfigError, match=said):
        options(toy_model, **cfg)


def test_frozen_tied_weights_are_no_question():
    model = tied()
    model.extra = nn.Linear(1, 1)
    model.embedding.requires_grad_(False)
    assert options(model, bias_lr_mult=2)["extra.bias"].options["lr"] == 0.2
