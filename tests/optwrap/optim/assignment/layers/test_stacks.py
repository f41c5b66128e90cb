"""What a block is, in small models written by hand."""

from collections import OrderedDict

import pytest
from torch import nn

from optwrap.optim.assignment.blocks import find_blocks


class Block(nn.Module):
    def __init__(self, dim=2):
        super().__init__()
        self.attn, self.mlp = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)


class Other(Block):
    pass


class Stage(nn.Module):
    def __init__(self, depth, dim=2, kinds=(Block,)):
        super().__init__()
        self.downsample = nn.Sequential(nn.LayerNorm(dim), nn.Conv2d(dim, dim, 2, 2))
        self.blocks = nn.Sequential(*(kinds[i % len(kinds)](dim) for i in range(depth)))


class Numbered(nn.Module):
    """Blocks that were added one by one, as attributes."""

    def __init__(self, depth, dim=2):
        super().__init__()
        for i in range(1, depth + 1):
            self.add_module(f"block{i}", Block(dim))


class Layer(nn.Module):
    """As T5 has them: the parts of a layer stand in a list of their own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList([Block(), Other()])


class Branched(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList([nn.Sequential(Block(2), Block(2)), nn.Sequential(Block(4), Block(4))])


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.gate = nn.Linear(2, 2), nn.Linear(2, 8)
        self.experts = nn.ModuleList(Block() for _ in range(8))


def model(**children):
    return nn.Sequential(OrderedDict(children))


def stem():
    return nn.Sequential(nn.Conv2d(3, 2, 4, 4), nn.LayerNorm(2))


@pytest.mark.parametrize(
    ("body", "blocks", "stages"),
    [
        # Stages with hardly a weight outside of their blocks; depth 1 is a stage too.
        ({"stages": nn.Sequential(Stage(1, 2), Stage(3, 4), Stage(2, 8))},
         [f"stages.{i}.blocks.{j}" for i, depth in enumerate([1, 3, 2]) for j in range(depth)],
         ["stages.0", "stages.1", "stages.2"]),
        # Mixed children.
        ({"stages": nn.Sequential(Stage(2, 2, (Block, Other)), Stage(3, 4, (Other, Block)))},
         [f"stages.0.blocks.{i}" for i in range(2)] + [f"stages.1.blocks.{i}" for i in range(3)],
         ["stages.0", "stages.1"]),
        # Attributes with numbers, in a model and in its stages.
        ({"stages": nn.Sequential(Numbered(1), Numbered(3, 4))},
         ["stages.0.block1", "stages.1.block1", "stages.1.block2", "stages.1.block3"], ["stages.0", "stages.1"]),
        # Parts of a layer, branches and experts are no blocks.
        ({"layers": nn.ModuleList(Layer() for _ in range(3))}, [f"layers.{i}" for i in range(3)], None),
        ({"layers": nn.ModuleList(Branched() for _ in range(3))}, [f"layers.{i}" for i in range(3)], None),
        ({"layers": nn.ModuleList(Experts() for _ in range(3))}, [f"layers.{i}" for i in range(3)], None),
        # Single layers between blocks of several kinds.
        ({"features": nn.Sequential(Block(), nn.Conv2d(2, 2, 1), Other(), Block())},
         ["features.0", "features.2", "features.3"], None),
    ],
    ids=["stages", "mixed", "numbered", "parts", "branches", "experts", "between"],
)  # fmt: skip
def test_blocks_not_stages_nor_parts(body, blocks, stages):
    whole = model(stem=stem(), **body, head=nn.Linear(2, 2))
    assert find_blocks(whole) == blocks
    assert find_blocks(whole, "stage") == (stages or blocks)


def test_one_container_a_stage_under_several_parents():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.layer1, self.layer2 = stem(), nn.Sequential(Block()), nn.Sequential(Block(), Block())
            self.fc = nn.Linear(2, 2)

    assert find_blocks(Net(), "stage") == ["layer1", "layer2"]
    assert find_blocks(Net()) == ["layer1.0", "layer2.0", "layer2.1"]
