import pytest
import torch
from torch import nn
from torchvision.ops import DeformConv2d

from optwrap.errors import ConfigError
from optwrap.optim.assignment.hidden.cut import shapes
from optwrap.optim.assignment.hidden.matrices import hidden_matrices


def found(model, **options):
    """Return the shapes of the hidden matrices by name."""
    return {
        each.param.name: [tuple(shape) for shape in shapes(each.cut, each.param.tensor)]
        for each in hidden_matrices(model, **options)
    }


class Kinds(nn.Module):
    """Convolutions of every kind, before a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.wide, self.point = nn.Conv2d(8, 16, 3), nn.Conv2d(16, 8, 1)
        self.depthwise, self.grouped = nn.Conv2d(8, 8, 3, groups=8), nn.Conv1d(16, 8, 3, groups=2)
        self.up, self.deformed = nn.ConvTranspose2d(8, 6, 2), DeformConv2d(8, 4, 3)
        self.few, self.narrow = nn.Conv2d(8, 3, 3), nn.Linear(8, 3)
        self.norm, self.attention = nn.LayerNorm([8, 8]), nn.MultiheadAttention(8, 2)
        self.head = nn.Linear(8, 10)


def test_a_convolution_is_a_matrix_whose_rows_are_its_output_channels():
    assert found(Kinds()) == {
        "wide.weight": [(16, 72)],
        "point.weight": [(8, 16)],
        "grouped.weight": [(8, 24)],
        "up.weight": [(8, 24)],
        "deformed.weight": [(4, 72)],
        "attention.in_proj_weight": [(24, 8)],
        "attention.out_proj.weight": [(8, 8)],
    }


def test_convolutions_may_be_left_to_the_rest():
    assert set(found(Kinds(), convolutions=False)) == {"attention.in_proj_weight", "attention.out_proj.weight"}


class Experts(nn.Module):
    def __init__(self, stacked=True):
        super().__init__()
        self.num_experts = 3
        self.gate_up_proj = nn.Parameter(torch.zeros((3, 16, 4) if stacked else (48, 4)))
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(4, 16))


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))


class Moe(nn.Module):
    """Experts in one tensor, what chooses them, and a gate that chooses none."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.gate, self.experts = nn.Linear(4, 4), Experts()
        self.old, self.chosen = Experts(stacked=False), Router()
        self.mlp = nn.ModuleDict({"gate": nn.Linear(4, 8), "up": nn.Linear(4, 8)})
        self.lm_head = nn.Linear(4, 9)


def test_experts_are_a_matrix_each_and_routers_none():
    assert found(Moe()) == {
        "experts.gate_up_proj": [(16, 4)] * 3,
        "old.gate_up_proj": [(16, 4)] * 3,
        "mlp.gate.weight": [(4, 8)[::-1]],
        "mlp.up.weight": [(8, 4)],
    }


def test_a_tied_head_needs_no_option():
    model = Moe()
    model.lm_head.weight = model.embed.weight
    assert "lm_head.weight" not in found(model)
    assert "embed.weight" not in found(model)


class Attention(nn.Module):
    """Four heads of query and two of key and value, in one projection."""

    def __init__(self, rows=32):
        super().__init__()
        self.num_heads, self.num_key_value_heads, self.head_dim = 4, 2, 4
        self.qkv_proj = nn.Linear(8, rows)


class Conv1D(nn.Module):
    """A layer whose outputs are columns, as GPT-2 has them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 24))


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Attention(), Attention()])
        self.qkv, self.c_attn, self.experts = nn.Linear(8, 24), Conv1D(), Experts()
        self.query_key_value = nn.Linear(8, 24)
        self.small, self.head = nn.ModuleDict({"qkv": nn.Linear(8, 9)}), nn.Linear(8, 5)


def test_known_fused_projections_are_split_as_their_heads_tell():
    got = found(Fused(), split_fused=True)
    assert got["layers.0.qkv_proj.weight"] == got["layers.1.qkv_proj.weight"] == [(16, 8), (8, 8), (8, 8)]
    assert got["qkv.weight"] == [(8, 8)] * 3
    assert got["c_attn.weight"] == [(8, 8)] * 3
    assert got["experts.gate_up_proj"] == [(8, 4)] * 6
    assert got["query_key_value.weight"] == [(24, 8)]  # head by head
    assert got["small.qkv.weight"] == [(9, 8)]  # parts of three rows are no matrices
    assert found(Fused(), split_fused=False) == found(Fused())


def test_named_ones_are_split_into_three_or_as_told():
    got = found(Fused(), split_fused=["layers.1", "c_attn"])
    assert got["layers.0.qkv_proj.weight"] == [(32, 8)]
    assert got["layers.1.qkv_proj.weight"] == [(16, 8), (8, 8), (8, 8)]
    assert got["c_attn.weight"] == [(8, 8)] * 3
    got = found(Fused(), split_fused={"layers.0": [20, 12], "experts": 4})
    assert got["layers.0.qkv_proj.weight"] == [(20, 8), (12, 8)]
    assert got["experts.gate_up_proj"] == [(4, 4)] * 12


@pytest.mark.parametrize(
    ("split_fused", "said"),
    [
        (["qvk"], r"split_fused: 'qvk' matches no hidden matrix\. Did you mean 'qkv'"),
        ("qkv", r"split_fused='qkv': it is true, or a list of parts of names: .*=\[qkv\]"),
        (["query_key_value"], "query, key and value head by head"),
        (["layers.0.qkv", "head"], "'head' matches no hidden matrix"),
        (
            {"layers.0": [20, 20]},
            r"'layers.0' matches 'layers.0.qkv_proj.weight', whose 32 rows are not \[20, 20\]",
        ),
        ({"layers.0": 5}, r"whose 32 rows are not 5 equal parts"),
        ({"layers.0": [31, 1]}, "parts of under 4 rows are no matrices"),
    ],
)
def test_what_cannot_be_split_is_an_error(split_fused, said):
    with pytest.raises(ConfigError, match=said):
        found(Fused(), split_fused=split_fused)
