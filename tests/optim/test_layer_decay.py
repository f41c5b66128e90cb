import pytest
import torch
from torch import nn
from torchvision.models import get_model

from optwrap.errors import ConfigError
from optwrap.optim import build_optim_wrapper
from optwrap.optim.layer_decay import find_blocks, layer_ids

LAYER_DECAY = "optwrap.optim.LayerDecayOptimWrapperConstructor"


def model_of(name, **kwargs):
    with torch.device("meta"):
        return get_model(name, **kwargs)


def options(model, option="lr", lr=1.0, **paramwise_cfg):
    cfg = {
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": lr, "weight_decay": 0.05},
        "constructor": LAYER_DECAY,
        "paramwise_cfg": {"decay_factor": 0.75, "decay_by": "block", **paramwise_cfg},
    }
    return {each.name: each.options[option] for each in build_optim_wrapper(model, cfg).assignments}


def beit_layer_of_vit(name, blocks):
    """The layer numbers of BEiT and MAE fine-tuning, for torchvision's names."""
    if name in ("class_token", "encoder.pos_embedding") or name.startswith("conv_proj"):
        return 0
    if name.startswith("encoder.layers."):
        return int(name.split(".")[2].removeprefix("encoder_layer_")) + 1
    return blocks + 1


@pytest.mark.parametrize(("name", "blocks"), [("vit_b_16", 12), ("vit_l_16", 24)])
def test_a_vit_gets_the_scales_of_beit(name, blocks):
    model = model_of(name)
    expected = {
        param: 0.75 ** (blocks + 1 - beit_layer_of_vit(param, blocks)) for param, _ in model.named_parameters()
    }
    assert options(model) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "blocks", "layers"),
    [
        ("swin_t", 12, {"features.0.0.weight": 0, "features.1.0.norm1.weight": 1, "features.2.reduction.weight": 3,
                        "features.3.0.norm1.weight": 3, "norm.weight": 13, "head.bias": 13}),
        ("swin_v2_t", 12, {"features.7.1.mlp.3.bias": 12}),
        ("convnext_tiny", 18, {"features.0.0.weight": 0, "features.1.2.layer_scale": 3, "features.2.1.weight": 4,
                               "features.3.0.layer_scale": 4, "classifier.0.weight": 19, "classifier.2.bias": 19}),
        ("resnet50", 16, {"conv1.weight": 0, "bn1.bias": 0, "layer1.0.conv1.weight": 1,
                          "layer2.0.downsample.0.weight": 4, "layer4.2.bn3.weight": 16, "fc.weight": 17}),
        ("resnet18", 8, {"layer4.1.conv2.weight": 8}),
    ],
)  # fmt: skip
def test_torchvision_families_need_no_hint(name, blocks, layers):
    model = model_of(name)
    assert len(find_blocks(model)) == blocks
    got = options(model)
    for param, layer in layers.items():
        assert got[param] == pytest.approx(0.75 ** (blocks + 1 - layer)), param


def test_wrapped_models_have_the_same_blocks():
    model = model_of("resnet18")
    assert options(nn.DataParallel(torch.compile(model))) == options(model)


class Unusual(nn.Module):
    """Its head is defined first, and its blocks are no container."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.stem = nn.Linear(2, 2)
        self.first = nn.Linear(2, 2)
        self.second = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def test_any_other_model_by_a_list_of_prefixes():
    got = options(Unusual(), blocks=["first", "second"], head=["head"])
    by_module = {name.split(".")[0]: lr for name, lr in got.items()}
    assert by_module == pytest.approx({"head": 1.0, "stem": 0.75**3, "first": 0.75**2, "second": 0.75})


def test_a_star_means_every_child():
    got = options(Unusual(), blocks=["first", "second.*"], head=["head"])
    assert got["second.0.weight"] == pytest.approx(0.75**2)
    assert got["second.1.weight"] == pytest.approx(0.75)


def test_layer_ids_are_a_pure_function_of_names():
    names = ["stem.w", "a.w", "between.w", "b.w", "norm.w"]
    assert list(layer_ids(names, ["a", "b"]).values()) == [0, 1, 2, 2, 3]


def test_a_prefix_is_a_whole_name():
    assert layer_ids(["block1.w", "block10.w"], ["block1", "block10"]) == {"block1.w": 1, "block10.w": 2}


def test_it_combines_with_every_other_field():
    model = get_model("resnet18")
    cfg = {"norm_decay_mult": 0, "lr_mult": 0.5, "custom_keys": {"fc": {"lr_mult": 10}}}
    lr = options(model, lr=0.1, **cfg)
    assert lr["fc.weight"] == pytest.approx(0.1 * 10 * 0.5)
    assert lr["conv1.weight"] == pytest.approx(0.1 * 0.5 * 0.75**9)
    decay = options(model, "weight_decay", **cfg)
    assert (decay["bn1.weight"], decay["conv1.weight"]) == (0, 0.05)


def test_no_decay_1d():
    decay = options(model_of("vit_b_16"), "weight_decay", no_decay_1d=True)
    model = model_of("vit_b_16")
    assert decay == {name: 0.0 if param.ndim == 1 else 0.05 for name, param in model.named_parameters()}


def test_the_rule_says_the_layer():
    cfg = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0},
        "constructor": LAYER_DECAY,
        "paramwise_cfg": {"decay_factor": 0.5, "decay_by": "block", "bias_lr_mult": 2},
    }
    rules = {each.name: each.rule for each in build_optim_wrapper(model_of("resnet18"), cfg).assignments}
    assert rules["conv1.weight"] == "decay_factor ** 9"
    assert rules["fc.bias"] == "bias_lr_mult + decay_factor ** 0"


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"decay_factor": 0}, "decay_factor=0"),
        ({"decay_factor": 1.5}, "decay_factor=1.5"),
        ({"decay_factor": None}, "decay_factor is not set"),
        ({"decay_by": "layer"}, "decay_by='layer'"),
        ({"no_decay_1d": True, "flat_decay_mult": 1.0}, "no_decay_1d.*flat_decay_mult"),
        ({"blocks": ["frist"]}, "'frist'.*'first'"),
        ({"norm_deacy_mult": 0}, "'norm_decay_mult'"),
        ({}, "no blocks found in Unusual, whose children are head, stem, first, second"),
    ],
)
def test_errors_name_the_field_and_the_remedy(cfg, said):
    with pytest.raises(ConfigError, match=said):
        options(Unusual(), **cfg)
