"""Wrappers, optimizers, clipping and rules: each key is carried over, or said."""

from typing import Any

import pytest

from optwrap.from_mmengine.wrapper import optim_wrapper_of

SGD = {"type": "SGD", "lr": 0.1}
WHERE = "optim_wrapper.paramwise_cfg"


def test_mixed_precision_accumulation_and_clipping() -> None:
    cfg = {
        "type": "AmpOptimWrapper",
        "optimizer": {"type": "AdamW", "lr": 1, "betas": [0, 0.99]},
        **{"loss_scale": "dynamic", "dtype": "torch.bfloat16", "accumulative_counts": 4},
        "clip_grad": {"max_norm": 35, "norm_type": 2, "foreach": False},
    }
    part = optim_wrapper_of(cfg, None)
    assert part.options == ["AdamW", "amp"]
    assert part.keys == {
        "dtype": "bfloat16",
        "optimizer": {"lr": 1.0, "betas": [0.0, 0.99]},
        "clip_grad": {"max_norm": 35.0, "norm_type": 2.0},
        "accumulative_counts": 4,
    }
    assert part.left == part.notes == []


@pytest.mark.parametrize("given", [512, 512.0, {"init_scale": 512}])
def test_a_loss_scale_stays_what_it_is(given: Any) -> None:
    cfg = {"type": "AmpOptimWrapper", "optimizer": SGD, "loss_scale": given}
    assert optim_wrapper_of(cfg, None).keys["loss_scale"] == given


def test_several_wrappers_stand_under_their_names() -> None:
    cfg = {
        "constructor": "MultiOptimWrapperConstructor",
        "generator": {"type": "AmpOptimWrapper", "optimizer": {"type": "Adam", "lr": 0.1}},
        "discriminator": {"optimizer": SGD, "accumulative_counts": 2},
    }
    part = optim_wrapper_of(cfg, None)
    assert part.options == ["multi"]
    assert {name: inner.options for name, inner in part.inner.items()} == {
        "generator": ["Adam", "amp"],
        "discriminator": ["SGD"],
    }
    assert part.inner["discriminator"].keys["accumulative_counts"] == 2
    assert part.left == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"optimizer": {**SGD, "speed": 1}}, "optim_wrapper.optimizer.speed=1"),
        ({"optimizer": SGD, "colour": "red"}, "optim_wrapper.colour=red"),
        ({"optimizer": SGD, "dtype": "float16"}, "optim_wrapper.dtype=float16"),
        ({"optimizer": SGD, "clip_grad": {"norm_type": 2}}, "optim_wrapper.clip_grad={norm_type: 2}"),
        ({"optimizer": SGD, "clip_grad": {"max_norm": 1, "x": 2}}, "optim_wrapper.clip_grad.x=2"),
        ({"optimizer": SGD, "modules": ".*unet"}, "optim_wrapper.modules=.*unet"),
        ({"optimizer": SGD, "type": "DeepSpeedOptimWrapper"}, "optim_wrapper.type=DeepSpeedOptimWrapper"),
        ({"optimizer": SGD, "type": "MyWrapper"}, "optim_wrapper.type=MyWrapper"),
        ({"optimizer": SGD, "constructor": "Mine"}, "optim_wrapper.constructor=Mine"),
        ({"optimizer": {"type": "MySGD"}}, "optim_wrapper.optimizer.type=MySGD"),
        ({"optimizer": SGD, "paramwise_cfg": ["a"]}, "optim_wrapper.paramwise_cfg=[a]"),
        ({"optimizer": SGD, "paramwise_cfg": {"custom_keys": ["a"]}}, f"{WHERE}.custom_keys=[a]"),
        ({"optimizer": SGD, "paramwise_cfg": {"force_default_settings": True}}, f"{WHERE}.force_default_settings"),
        (
            {"constructor": "SinGANOptimWrapperConstructor", "a": {"optimizer": SGD}},
            "optim_wrapper.constructor=Sin",
        ),
        ({"constructor": "MultiOptimWrapperConstructor", "a": {"optimizer": SGD}, "b": 3}, "optim_wrapper.b=3"),
    ],
)
def test_what_is_not_carried_over_is_said_with_a_remedy(given: dict[str, Any], said: str) -> None:
    (line,) = optim_wrapper_of(given, None).left
    assert line.startswith(said)
    assert len(line.partition(": ")[2]) > 20


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "torch.optim.SGD", "lr": 1}, {"lr": 1.0}),
        (
            {"type": "LARS", "lr": 4.8, "eta": 1e-3},
            {"_target_": "timm.optim.Lars", "lr": 4.8, "trust_coeff": 1e-3},
        ),
        ({"type": "mmpretrain.Lamb", "lr": 5e-3}, {"_target_": "timm.optim.Lamb", "lr": 5e-3}),
        ({"type": "Adan", "lr": 1e-3, "max_grad_norm": 0}, {"_target_": "timm.optim.Adan", "lr": 1e-3}),
        ({"type": "Lion", "lr": 1e-4}, {"_target_": "lion_pytorch.Lion", "lr": 1e-4}),
        ({"type": "my.package.Sgd", "lr": 1e-4}, {"_target_": "my.package.Sgd", "lr": 1e-4}),
    ],
)
def test_optimizers_by_their_names(given: dict[str, Any], expected: dict[str, Any]) -> None:
    part = optim_wrapper_of({"optimizer": given}, None)
    assert part.keys["optimizer"] == expected
    assert part.options == ([] if "_target_" in expected else ["SGD"])
    assert part.left == []


def test_rules_are_not_strict_and_tags_of_the_optimizer_stay() -> None:
    rules = {
        "norm_decay_mult": 0,
        "bypass_duplicate": True,
        "flat_decay_mult": None,
        "custom_keys": {"bias": {"decay_mult": 0.0, "lars_exclude": True}},
    }
    part = optim_wrapper_of({"optimizer": SGD, "paramwise_cfg": rules}, None)
    assert part.keys["paramwise_cfg"] == {
        "norm_decay_mult": 0,
        "bypass_duplicate": True,
        "custom_keys": {"bias": {"decay_mult": 0.0, "lars_exclude": True}},
        "strict": False,
    }
    assert part.left == []
    assert any("lars_exclude" in note for note in part.notes)


def test_no_rules_are_no_key() -> None:
    for rules in (None, {}, {"custom_keys": {}}, {"norm_decay_mult": None}):
        assert "paramwise_cfg" not in optim_wrapper_of({"optimizer": SGD, "paramwise_cfg": rules}, None).keys


def test_the_biases_of_norms_have_the_factor_of_biases_where_norms_have_none() -> None:
    model = {
        "backbone": {"norm_cfg": {"type": "BN", "requires_grad": False}},
        "bbox_head": {"norm_cfg": {"type": "GN", "num_groups": 32}},
    }
    rules = {"bias_lr_mult": 2.0, "bias_decay_mult": 0.0}
    part = optim_wrapper_of({"optimizer": SGD, "paramwise_cfg": rules}, model)
    keys = part.keys["paramwise_cfg"]["custom_keys"]
    assert keys["gn.bias"] == {"decay_mult": 0.0}
    assert not any(key.startswith("bn") for key in keys)
    assert any("bias_decay_mult" in note for note in part.notes)
    decided = optim_wrapper_of({"optimizer": SGD, "paramwise_cfg": {**rules, "norm_decay_mult": 0.5}}, model)
    assert "custom_keys" not in decided.keys["paramwise_cfg"]


def test_what_mmengine_does_not_read_is_left_out_and_said() -> None:
    rules = {"_delete": True, "norm_decay_mult": 0.0}
    part = optim_wrapper_of({"optimizer": SGD, "paramwise_cfg": rules}, None)
    assert part.keys["paramwise_cfg"] == {"norm_decay_mult": 0.0, "strict": False}
    assert part.left == []
    assert any("_delete" in note for note in part.notes)
