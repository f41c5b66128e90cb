"""Blocks of every classification model of torchvision, by the names that its code gives them (10 s)."""

import re

import pytest
import torchvision
from torchvision.models import list_models

from optwrap.optim import walk
from optwrap.optim.assignment.blocks import find_blocks
from optwrap.optim.assignment.layers.place import layer_of_each
from tests.optwrap.optim.zoo.torchvision_models import FAMILIES, build

# Modules that hold weights among those with such names, and are no blocks.
BETWEEN = {"mobilenet": 2}
PLAIN = ("alexnet", "vgg")  # their blocks are single convolutions


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models(module=torchvision.models))
def test_every_block_of_every_classification_model_is_found(name):
    family = next(family for family in FAMILIES if name.startswith(family))
    pattern, stem, head = FAMILIES[family]
    model = build(name)
    blocks = find_blocks(model)
    assert all(re.fullmatch(pattern, block) for block in blocks)
    named = [module for each, module in model.named_modules() if re.fullmatch(pattern, each)]
    holding = [module for module in named if any(param.ndim > 1 for param in module.parameters())]
    composite = [module for module in holding if any(module.children()) or family in PLAIN]
    assert len(blocks) == len(composite) - BETWEEN.get(family, 0)
    ids = layer_of_each(walk(model), blocks)
    assert {layer for each, layer in ids.items() if each.startswith(f"{stem}.")} == {0}
    assert {layer for each, layer in ids.items() if each.startswith(f"{head}.")} == {len(blocks) + 1}
