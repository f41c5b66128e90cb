import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torchvision.models import VisionTransformer, get_model

from optwrap.errors import ConfigError
from optwrap.optim import build_optim_wrapper
from optwrap.optim.assignment.blocks import find_blocks

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


class Clip(nn.Module):
    """A head and a scale that are defined first, tokens and positions, blocks."""

    def __init__(self):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.ones(()))
        self.pos_embed = nn.Parameter(torch.zeros(1, 3, 2))
        self.head = nn.Linear(2, 4)
        self.fc_norm = nn.LayerNorm(2)
        self.patch = nn.Linear(2, 2)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(2))

    def no_weight_decay(self):
        return {"pos_embed", "head.weight"}


def test_a_head_and_a_scale_that_are_defined_first_are_no_stem():
    got = options(Clip(), head=["fc_norm"])
    expected = {
        "logit_scale": 1, "head.weight": 1, "head.bias": 1, "fc_norm.weight": 1,
        "pos_embed": 0.75**3, "patch.weight": 0.75**3, "blocks.0.0.weight": 0.75**2, "blocks.1.1.bias": 0.75,
    }  # fmt: skip
    assert {name: got[name] for name in expected} == pytest.approx(expected)


def test_no_decay_1d_spares_what_the_model_names():
    keys = {"custom_keys": {"head": {"decay_mult": 2}}}
    for cfg, head in (({}, 0.0), (keys, 0.1)):
        decay = options(nn.DataParallel(Clip()), "weight_decay", no_decay_1d=True, **cfg)
        assert (decay["pos_embed"], decay["head.weight"], decay["patch.weight"]) == (0.0, head, 0.05)
    assert options(Clip(), "weight_decay")["pos_embed"] == 0.05


def test_a_star_means_every_child():
    got = options(Unusual(), blocks=["first", "second.*"], head=["head"])
    assert got["second.0.weight"] == pytest.approx(0.75**2)
    assert got["second.1.weight"] == pytest.approx(0.75)


def test_a_list_of_prefixes_counts_only_blocks_with_parameters():
    features = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 1, 1), nn.ReLU(), nn.MaxPool2d(1))
    got = options(nn.ModuleDict({"features": features, "head": nn.Linear(1, 1)}), blocks=["features.*"])
    expected = {"features.0.weight": 0.75**2, "features.2.weight": 0.75, "head.weight": 1.0}
    assert {name: got[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("wrapped", ["encoder", "encoder.layers.1"])
@pytest.mark.parametrize("cfg", [{}, {"blocks": ["encoder.layers.*"]}])
def test_checkpoint_wrappers_inside_the_model_change_no_scale(wrapped, cfg):
    model = VisionTransformer(image_size=8, patch_size=4, num_layers=3, num_heads=1, hidden_dim=4, mlp_dim=4)
    expected = options(model)
    wrapped = wrapped.replace(".1", ".encoder_layer_1")
    model.set_submodule(wrapped, checkpoint_wrapper(model.get_submodule(wrapped)))
    assert options(model, **cfg) == expected


def test_tied_weights_lie_in_two_layers():
    model = nn.ModuleDict({"embedding": nn.Embedding(3, 2), "block": nn.Linear(2, 2), "head": nn.Linear(2, 3)})
    model["head"].weight = model["embedding"].weight
    with pytest.raises(ConfigError, match=r"'embedding.weight' is also 'head.weight'.*bypass_duplicate"):
        options(model, blocks=["block"])
    lr = options(model, blocks=["block"], bypass_duplicate=True)
    assert lr["embedding.weight"] == pytest.approx(0.75**2)


@pytest.mark.parametrize("weight_decay", [{}, {"weight_decay": 0.0}])
def test_no_decay_1d_asks_nothing_of_an_optimizer_without_decay(weight_decay, caplog):
    cfg = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0, **weight_decay},
        "constructor": LAYER_DECAY,
        "paramwise_cfg": {"decay_factor": 0.5, "no_decay_1d": True},
    }
    assert build_optim_wrapper(nn.Linear(1, 1), cfg).assignments
    assert caplog.text == ""


@given(
    st.fixed_dictionaries(
        {"decay_factor": st.floats(0.1, 1)},
        optional={
            "lr_mult": st.floats(0, 4), "decay_mult": st.floats(0, 4), "bias_lr_mult": st.floats(0, 4),
            "bias_decay_mult": st.floats(0, 4), "norm_decay_mult": st.floats(0, 4),
            "flat_decay_mult": st.floats(0, 4), "dwconv_decay_mult": st.floats(0, 4),
            "custom_keys": st.sampled_from([{"fc": {"lr_mult": 3.0}}, {"layer2": {"decay_mult": 0.0}}]),
        },
    )
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_whatever_the_other_fields_give_is_multiplied_by_the_layers_scale(cfg):
    model = model_of("resnet18")
    cfg = {"custom_keys": {}} | cfg
    others = {name: value for name, value in cfg.items() if name != "decay_factor"}
    plain = {
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1.0, "weight_decay": 0.05},
        "paramwise_cfg": others,
    }
    without = {each.name: each.options for each in build_optim_wrapper(model, plain).assignments}
    scales = {name: cfg["decay_factor"] ** (9 - layer) for name, layer in resnet18_layers(model).items()}
    assert options(model, **cfg) == pytest.approx({name: without[name]["lr"] * scales[name] for name in without})
    assert options(model, "weight_decay", **cfg) == {name: without[name]["weight_decay"] for name in without}


def resnet18_layers(model):
    """Stem 0, two blocks in each of four stages, head 9."""
    stages = {f"layer{i}.{j}": 2 * i - 1 + j for i in range(1, 5) for j in range(2)} | {"fc": 9}
    names = [name for name, _ in model.named_parameters()]
    return {name: next((i for start, i in stages.items() if name.startswith(start)), 0) for name in names}


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
        ({"decay_by": "layer"}, "decay_by='layer': it is depth, block or stage"),
        ({"no_decay_1d": "yes"}, "no_decay_1d='yes': it is true or false"),
        ({"norm_classes": "MyNorm"}, r"norm_classes='MyNorm': it is a list of names of classes: \[MyNorm\]"),
        ({"no_decay_1d": True, "flat_decay_mult": 1.0}, "no_decay_1d.*flat_decay_mult"),
        ({"blocks": ["frist"]}, "'frist'.*'first'"),
        ({"blocks": "first"}, "blocks='first': it is a list"),
        ({"blocks": [["first", 2]]}, "blocks: 2 is no prefix"),
        ({"blocks": [3]}, "blocks=3: it is a list"),
        ({"blocks": [[], []]}, "every block of it is empty"),
        ({"blocks": ["first", "second", "second.0"]}, "'second.0' lies in 'second'"),
        ({"blocks": ["first", "first"]}, "'first' lies in 'first'"),
        ({"blocks": ["first.*"]}, "'first.*' holds no block"),
        (
            {"blocks": ["first"], "head": ["haed"]},
            "head: 'haed' is the prefix of no parameter. Did you mean 'head'",
        ),
        ({"decay_by": "depth", "blocks": ["first"]}, "decay_by=depth takes no .*blocks"),
        ({"norm_deacy_mult": 0}, "'norm_decay_mult'"),
        ({}, "no blocks found in Unusual, whose children are head, stem, first, second"),
    ],
)
def test_errors_name_the_field_and_the_remedy(cfg, said):
    with pytest.raises(ConfigError, match=said):
        options(Unusual(), **cfg)


class Told(nn.ModuleDict):
    """A model that numbers its layers itself, unlike what its modules tell."""

    def __init__(self):
        super().__init__({name: nn.Linear(2, 2) for name in ("stem", "first", "second", "neck", "head")})

    def group_matcher(self, coarse=False):
        return {"stem": "^stem", "blocks": "^first|second" if coarse else [(r"^first", (0,)), (r"^second", (1,))]}


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        ({}, {"stem": 3, "first": 2, "second": 1, "neck": 0, "head": 0}),
        ({"head": ["second"]}, {"stem": 3, "first": 2, "second": 0, "neck": 0, "head": 0}),
        ({"decay_by": "stage"}, {"stem": 2, "first": 1, "second": 1, "neck": 0, "head": 0}),
        ({"blocks": ["stem", "neck"]}, {"stem": 2, "first": 1, "second": 1, "neck": 1, "head": 0}),
    ],
)
def test_the_models_own_word_comes_before_what_is_found_and_after_the_users(cfg, expected):
    lrs = options(nn.DataParallel(Told()), **cfg)
    assert lrs == pytest.approx({
        f"{name}.{part}": 0.75**exponent for name, exponent in expected.items() for part in ("weight", "bias")
    })  # fmt: skip


def test_stages_step_once():
    lr = options(model_of("convnext_tiny"), decay_by="stage")
    assert lr["features.0.0.weight"] == pytest.approx(0.75**5)
    for stage in range(1, 5):
        of_stage = {value for name, value in lr.items() if name.startswith(f"features.{2 * stage - 1}.")}
        assert list(of_stage) == [pytest.approx(0.75 ** (5 - stage))]


def test_a_list_that_leaves_most_of_the_model_out_is_a_warning(caplog):
    towers = nn.ModuleDict(
        {name: nn.Sequential(*(nn.Linear(9, 9) for _ in range(9))) for name in ("text", "image")}
    )
    options(towers, blocks=["text.0"])
    assert "94 % of the weights lie in none of the 1 blocks" in caplog.text
    caplog.clear()
    options(towers, blocks=["text.*"])
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


def test_the_log_says_how_the_blocks_were_told(caplog):
    caplog.set_level("INFO", logger="optwrap")
    options(model_of("resnet18"))
    options(Told())
    found, told = [record.message for record in caplog.records]
    assert "8 blocks, found: layer1.0, layer1.1, ..., layer4.1" in found
    assert "4 layers, as the model's group_matcher says" in told
