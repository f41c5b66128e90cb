"""Blocks of every classification model of torchvision, by the names that its code gives them (10 s)."""

import re

import pytest
import torch
import torchvision
from torchvision.models import get_model, list_models, regnet

from optwrap.optim import walk
from optwrap.optim.assignment.blocks import find_blocks
from optwrap.optim.assignment.layers.place import layer_of_each

# What the names of a family's blocks, of all its stem and of its head begin with.
FAMILIES = {
    "alexnet": (r"features\.(?!0$)\d+", "features.0", "classifier"),
    "convnext": (r"features\.[1357]\.\d+", "features.0", "classifier"),
    "densenet": (r"features\.denseblock\d\.denselayer\d+", "features.conv0", "classifier"),
    "efficientnet": (r"features\.[1-7]\.\d+", "features.0", "classifier"),
    "googlenet": (r"inception\d[a-e]", "conv1", "fc"),
    "inception": (r"Mixed_\d[a-e]", "Conv2d_1a_3x3", "fc"),
    "maxvit": (r"blocks\.\d\.layers\.\d", "stem", "classifier"),
    "mnasnet": (r"layers\.(8|9|1[0-3])\.\d", "layers.0", "classifier"),
    "mobilenet": (r"features\.\d+", "features.0", "classifier"),
    "regnet": (r"trunk_output\.block\d\.block\d-\d+", "stem", "fc"),
    "resn": (r"layer\d\.\d+", "conv1", "fc"),
    "wide": (r"layer\d\.\d+", "conv1", "fc"),
    "shufflenet": (r"stage\d\.\d+", "conv1", "fc"),
    "squeezenet": (r"features\.\d+", "features.0", "classifier"),
    "swin": (r"features\.[1357]\.\d+", "features.0", "head"),
    "vgg": (r"features\.(?!0$)\d+", "features.0", "classifier"),
    "vit": (r"encoder\.layers\.encoder_layer_\d+", "conv_proj", "heads"),
}
# Modules that hold weights among those with such names, and are no blocks.
BETWEEN = {"mobilenet": 2}
PLAIN = ("alexnet", "vgg")  # their blocks are single convolutions


def build(name):
    """Return a model on the meta device, with which RegNet's arithmetic would fail."""
    compute = regnet.BlockParams.from_init_params

    def on_cpu(*args, **kwargs):
        with torch.device("cpu"):
            return compute(*args, **kwargs)

    regnet.BlockParams.from_init_params = on_cpu
    try:
        with torch.device("meta"):
            slow_to_draw = name in ("googlenet", "inception_v3")
            return get_model(name, **({"init_weights": False} if slow_to_draw else {}))
    finally:
        regnet.BlockParams.from_init_params = compute


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
