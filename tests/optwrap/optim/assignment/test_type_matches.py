import pytest
import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import build_optim_wrapper


class WhitenNorm(nn.Module):
    """A norm layer that holds a matrix, so that its name alone does not tell."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))


class LayerScale(nn.Module):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(2))


def build(*layers, hybrid=False, **paramwise_cfg):
    model = nn.Sequential(*layers)
    cfg = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.1}, "paramwise_cfg": paramwise_cfg}
    if hybrid:
        cfg["constructor"] = "optwrap.optim.HybridOptimWrapperConstructor"
        cfg["hidden_optimizer"] = {"_target_": "torch.optim.Muon", "lr": 0.1}
    return build_optim_wrapper(model, cfg)


BODY = [nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)]


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize(
    ("layers", "rule", "alike"),
    [
        ([WhitenNorm(), WhitenNorm()], "norm_decay_mult", r"2 of WhitenNorm \('0\.weight', \.\.\.\)"),
        ([LayerScale()], "norm_decay_mult", r"1 of LayerScale \('0\.gamma'\)"),
        ([nn.ParameterDict({"table_of_biases": torch.ones(2)})], "bias_lr_mult", r"1 of ParameterDict"),
    ],
)
def test_a_type_rule_that_misses_what_is_called_so_is_an_error_that_shows_it(layers, rule, alike, hybrid, caplog):
    message = rf"optim_wrapper\.paramwise_cfg\.{rule}=0 matches no parameter\. Alike are {alike}"
    with pytest.raises(ConfigError, match=message + ".*custom_keys.*strict=false"):
        build(*layers, *BODY, hybrid=hybrid, **{rule: 0})
    assert caplog.text == ""
    build(*layers, *BODY, hybrid=hybrid, strict=False, **{rule: 0})
    assert f"{rule}=0 matches no parameter. Alike are 1" in caplog.text.replace("2 of", "1 of")


@pytest.mark.parametrize(
    "rule",
    [
        "norm_decay_mult",
        "bias_lr_mult",
        "bias_decay_mult",
        "dwconv_decay_mult",
        "dcn_offset_lr_mult",
        "flat_decay_mult",
    ],
)
def test_a_type_rule_that_matches_nothing_is_a_warning_where_nothing_is_called_so(rule, caplog):
    build(*BODY, **{rule: 0.5})
    assert [record.message for record in caplog.records] == [
        f"optim_wrapper.paramwise_cfg.{rule}=0.5 matches no parameter."
    ]


def test_norm_layers_that_are_not_known_beside_known_ones_are_a_warning(caplog):
    layers = [nn.LayerNorm(2), WhitenNorm(), *BODY]
    build(*layers, norm_decay_mult=0)
    (message,) = [record.message for record in caplog.records]
    assert "norm_decay_mult=0 matches 2 parameters, but not 1 of WhitenNorm ('1.weight')" in message
    caplog.clear()
    build(*layers, norm_decay_mult=0, custom_keys={"1.weight": {"decay_mult": 0}})
    build(*layers, norm_decay_mult=0, norm_classes=["WhitenNorm"])
    assert caplog.text == ""


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_norm_class_that_the_model_has_not_is_an_error_that_shows_the_nearest(hybrid, caplog):
    cfg = {"norm_decay_mult": 0, "norm_classes": ["WhitenNrom"]}
    layers = [nn.LayerNorm(2), WhitenNorm(), *BODY]
    with pytest.raises(ConfigError, match=r"norm_classes: 'WhitenNrom' is the class .*'WhitenNorm'.*strict=false"):
        build(*layers, hybrid=hybrid, **cfg)
    build(*layers, hybrid=hybrid, strict=False, **cfg)
    assert "norm_classes: 'WhitenNrom' is the class of no module" in caplog.text


def test_no_decay_1d_that_spares_nothing_says_so(caplog):
    build(*BODY, no_decay_1d=True)
    assert [record.message for record in caplog.records] == [
        "optim_wrapper.paramwise_cfg.no_decay_1d=True matches no parameter."
    ]


@pytest.mark.parametrize("hybrid", [False, True])
def test_rules_that_match_say_nothing_whoever_decides(hybrid, caplog):
    keys = {"custom_keys": {"0.": {"lr_mult": 2.0}}}
    build(
        nn.LayerNorm(2), *BODY, hybrid=hybrid, norm_decay_mult=0, flat_decay_mult=0, bypass_duplicate=True, **keys
    )
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


def test_frozen_layers_are_called_so(caplog):
    norm = nn.LayerNorm(2).requires_grad_(False)
    build(norm, *BODY, norm_decay_mult=0)
    assert "norm_decay_mult=0 matches only frozen parameters." in caplog.text
