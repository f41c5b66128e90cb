import pytest
import torch
from torch import nn

from optwrap.optim import walk
from optwrap.optim.assignment.layers.place import layer_of_each


class Block(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 2), nn.Linear(2, 2))


class Gpt(nn.Module):
    """Its parts are defined in an order that is not that of their use."""

    def __init__(self):
        super().__init__()
        self.final_layer_norm = nn.LayerNorm(2)
        self.project_out = nn.Linear(2, 2)
        self.ln_pre = nn.LayerNorm(2)
        self.layers = nn.ModuleList(Block() for _ in range(2))
        self.embed_tokens = nn.Embedding(3, 2)
        self.layernorm_embedding = nn.LayerNorm(2)
        self.pos_embed = nn.Parameter(torch.zeros(1, 3, 2))
        self.norm = nn.LayerNorm(2)
        self.class_embed = nn.Linear(2, 2)


def test_what_a_parameter_is_decides_before_the_order_of_definition():
    ids = layer_of_each(walk(Gpt()), ["layers.0", "layers.1"])
    by_module = {name.removesuffix(".weight"): layer for name, layer in ids.items() if not name.endswith("bias")}
    assert by_module == {
        "final_layer_norm": 3, "project_out": 3, "ln_pre": 0,
        "layers.0.0": 1, "layers.0.1": 1, "layers.1.0": 2, "layers.1.1": 2,
        "embed_tokens": 0, "layernorm_embedding": 0, "pos_embed": 0, "norm": 3, "class_embed": 3,
    }  # fmt: skip


def test_positions_of_a_stage_stay_in_it():
    stages = nn.ModuleList(nn.ModuleDict({"blocks": nn.ModuleList([Block(), Block()])}) for _ in range(2))
    for stage in stages:
        stage.register_parameter("pos_embed", nn.Parameter(torch.zeros(1, 3, 2)))
    ids = layer_of_each(
        walk(nn.ModuleDict({"stages": stages})), [f"stages.{i}.blocks.{j}" for i in (0, 1) for j in (0, 1)]
    )
    assert (ids["stages.0.pos_embed"], ids["stages.1.pos_embed"]) == (0, 3)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["downsample_layers", "downsamples", "transitions"])
def test_a_list_of_downsamplings_goes_with_the_stages_beside_it(name, first):
    """As ConvNeXt has them: one for each stage, the first of which is the stem; or none before the first stage."""
    lists = {
        name: nn.ModuleList(nn.Linear(2, 2) for _ in range(first, 3)),
        "stages": nn.ModuleList(nn.ModuleList([Block(), Block()]) for _ in range(3)),
    }
    model = nn.ModuleDict({"backbone": nn.ModuleDict(lists)})
    ids = layer_of_each(walk(model), [f"backbone.stages.{i}.{j}" for i in range(3) for j in range(2)])
    found = [ids[f"backbone.{name}.{i}.weight"] for i in range(3 - first)]
    assert found == [0, 3, 5][first:]
    assert ids["backbone.stages.2.1.0.weight"] == 6


def test_norms_in_a_list_beside_the_stages_are_no_downsamplings():
    lists = {
        "norms": nn.ModuleList(nn.LayerNorm(2) for _ in range(2)),
        "stages": nn.ModuleList(nn.ModuleList([Block()]) for _ in range(2)),
    }
    ids = layer_of_each(walk(nn.ModuleDict(lists)), ["stages.0.0", "stages.1.0"])
    assert ids["norms.1.weight"] == 0


def test_several_modules_are_one_layer_and_an_empty_one_counts():
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("stem", "down", "first", "second", "head")})
    ids = layer_of_each(walk(model), ["first", ["down", "second"], []])
    assert {name.removesuffix(".weight"): layer for name, layer in ids.items() if name.endswith("weight")} == {
        "stem": 0, "first": 1, "down": 2, "second": 2, "head": 4,
    }  # fmt: skip
