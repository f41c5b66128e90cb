"""Classification models of torchvision, and what the names of their layers say."""

from typing import Any

import torch
from torch import nn
from torchvision.models import get_model, regnet

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
# Layers that auxiliary classifiers end in.
AUXILIARY = ("aux1.fc2", "aux2.fc2", "AuxLogits.fc")


def family_of(name: str) -> tuple[str, str, str]:
    """Return the entry of a model's family."""
    return next(entry for family, entry in FAMILIES.items() if name.startswith(family))


def build(name: str) -> nn.Module:
    """Return a model on the meta device, with which RegNet's arithmetic would fail."""
    compute = regnet.BlockParams.from_init_params

    def on_cpu(*args: Any, **kwargs: Any) -> Any:
        with torch.device("cpu"):
            return compute(*args, **kwargs)

    regnet.BlockParams.from_init_params = on_cpu
    try:
        with torch.device("meta"):
            slow_to_draw = name in ("googlenet", "inception_v3")
            return get_model(name, **({"init_weights": False} if slow_to_draw else {}))
    finally:
        regnet.BlockParams.from_init_params = compute
