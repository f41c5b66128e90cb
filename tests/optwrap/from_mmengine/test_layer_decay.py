"""Layer decay of other constructors: the lr of each parameter is theirs, written here as their papers have it."""

from typing import Any

import pytest
from torch import nn

from optwrap.from_mmengine.layer_decay import by_names
from optwrap.from_mmengine.wrapper import optim_wrapper_of
from optwrap.optim import build_optim_wrapper

BY_NAMES = "LearningRateDecayOptimizerConstructor"


class ConvNeXt(nn.Module):
    """Its downsamplings and its stages are two lists, as MMPretrain's."""

    def __init__(self, depths: tuple[int, ...]) -> None:
        super().__init__()
        self.downsample_layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2)) for _ in depths)
        self.stages = nn.ModuleList(
            nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)) for _ in range(depth)))
            for depth in depths
        )
        self.norm3 = nn.LayerNorm(2)


class Detector(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.bbox_head = nn.Linear(2, 2)


class Transformer(nn.Module):
    """As MMSegmentation's BEiT and MAE."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(nn.Linear(2, 1).weight.data[None])
        self.patch_embed = nn.Conv2d(3, 2, 2)
        self.layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2)) for _ in range(depth))
        self.ln1 = nn.LayerNorm(2)


def rates(model: nn.Module, constructor: str, backbone: str, rules: dict[str, Any]) -> dict[str, float]:
    """Return by what the lr of each parameter was multiplied."""
    cfg = {"optimizer": {"type": "AdamW", "lr": 1.0, "weight_decay": 0.05}, "constructor": constructor}
    part = optim_wrapper_of({**cfg, "paramwise_cfg": rules}, {"backbone": {"type": backbone}})
    assert part.options == ["AdamW", "layer_decay"]
    config = {
        "optimizer": {"_target_": "torch.optim.AdamW", **part.keys["optimizer"]},
        "constructor": {"_target_": "optwrap.optim.LayerDecayOptimWrapperConstructor"},
        "paramwise_cfg": part.keys["paramwise_cfg"],
    }
    wrapper = build_optim_wrapper(model, config)
    for each in wrapper.assignments:
        is_flat = each.tensor.ndim == 1
        assert each.options["weight_decay"] == (0 if is_flat else 0.05), each.name
    return {each.name: each.options["lr"] for each in wrapper.assignments}


def convnext_layer(name: str, last: int) -> int:
    """Return the layer of a parameter: stage 2 in threes, downsamplings with the stage behind them."""
    _, where, stage, *rest = [*name.split("."), "", ""]
    if where == "downsample_layers":
        return {"0": 0, "1": 2, "2": 3, "3": last}[stage]
    if where == "stages":
        return {"0": 1, "1": 2, "2": 3 + int(rest[0]) // 3, "3": last}[stage] if rest[0] else 0
    return last + 1


@pytest.mark.parametrize(("layers", "depths"), [(6, (3, 3, 9, 3)), (12, (3, 3, 27, 3))])
def test_convnext_by_layer(layers: int, depths: tuple[int, ...]) -> None:
    rules = {"decay_rate": 0.7, "decay_type": "layer_wise", "num_layers": layers}
    found = rates(Detector(ConvNeXt(depths)), BY_NAMES, "mmpretrain.ConvNeXt", rules)
    expected = {name: 0.7 ** (layers + 1 - convnext_layer(name, layers)) for name in found}
    assert found == pytest.approx(expected)
    assert len(set(found.values())) == layers + 2


@pytest.mark.parametrize("layers", [6, 12])
def test_convnext_by_stage(layers: int) -> None:
    rules = {"decay_rate": 0.9, "decay_type": "stage_wise", "num_layers": layers}
    found = rates(Detector(ConvNeXt((3, 3, 9, 3))), BY_NAMES, "mmpretrain.ConvNeXt", rules)

    def layer(name: str) -> int:
        if name.startswith("backbone.stages"):
            return int(name.split(".")[2]) + 1
        return 0 if name.startswith("backbone.downsample") else layers + 1

    assert found == pytest.approx({name: 0.9 ** (layers + 1 - layer(name)) for name in found})


@pytest.mark.parametrize("backbone", ["BEiT", "MAE"])
@pytest.mark.parametrize("constructor", [BY_NAMES, "LayerDecayOptimizerConstructor"])
def test_vision_transformers_by_layer(backbone: str, constructor: str) -> None:
    rate = {"decay_rate": 0.65} if constructor == BY_NAMES else {"layer_decay_rate": 0.65}
    found = rates(Detector(Transformer(4)), constructor, backbone, {**rate, "num_layers": 4})

    def layer(name: str) -> int:
        if name.startswith("backbone.layers"):
            return int(name.split(".")[2]) + 1
        return 0 if name.startswith(("backbone.cls_token", "backbone.patch_embed")) else 5

    assert found == pytest.approx({name: 0.65 ** (5 - layer(name)) for name in found})


def test_what_the_model_says_of_its_layers_counts() -> None:
    model = Detector(Transformer(4))
    depth = {"cls_token": 0, "patch_embed": 0, "ln1": 5}

    def get_layer_depth(name: str) -> tuple[int, int]:
        parts = name.split(".")
        if parts[0] != "backbone":
            return 5, 6
        return (int(parts[2]) + 1 if parts[1] == "layers" else depth[parts[1]]), 6

    model.get_layer_depth = get_layer_depth  # type: ignore[assignment]
    rules = {"layer_decay_rate": 0.5, "norm_decay_mult": 0.0, "bias_decay_mult": 0.0, "flat_decay_mult": 0.0}
    found = rates(model, "LearningRateDecayOptimWrapperConstructor", "VisionTransformer", rules)
    assert found == pytest.approx({name: 0.5 ** (5 - get_layer_depth(name)[0]) for name in found})


def test_lr_mult_is_not_read_there() -> None:
    cfg = {
        "optimizer": {"type": "AdamW", "lr": 1.0, "weight_decay": 0.05},
        "constructor": "LearningRateDecayOptimWrapperConstructor",
        "paramwise_cfg": {"layer_decay_rate": 0.5, "custom_keys": {"ln": {"lr_mult": 3, "decay_mult": 0}}},
    }
    part = optim_wrapper_of(cfg, None)
    assert part.keys["paramwise_cfg"]["custom_keys"] == {"ln": {"decay_mult": 0}}
    assert any("lr_mult of ln" in note for note in part.notes)


def test_a_backbone_that_is_an_error_there_is_said() -> None:
    cfg = {
        "optimizer": {"type": "AdamW", "lr": 1.0, "weight_decay": 0.05},
        "constructor": BY_NAMES,
        "paramwise_cfg": {"decay_rate": 0.5, "num_layers": 4},
    }
    part = optim_wrapper_of(cfg, {"backbone": {"type": "ResNet"}})
    assert "blocks" not in part.keys["paramwise_cfg"]
    assert "ResNet" in part.left[0]


@pytest.mark.parametrize("layers", [-3, 0, 3])
def test_a_number_of_layers_that_no_convnext_has_is_listed(layers):
    cfg = {"decay_rate": 0.7, "decay_type": "layer_wise", "num_layers": layers}
    part = by_names("LearningRateDecayOptimizerConstructor", cfg, "mmpretrain.ConvNeXt", "paramwise_cfg")
    assert f"num_layers={layers}" in str(part)
    assert "blocks" not in part.keys["paramwise_cfg"]
