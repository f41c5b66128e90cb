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
