"""torchvision's classification models by name, fitted to other channels, classes and image sizes."""

from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import nn
from torchvision.models import GoogLeNet, Inception3, ResNet, get_model, get_model_weights, list_models

from optwrap.errors import ConfigError, did_you_mean


def torchvision_model(
    name: str,
    num_classes: int,
    channels: int = 3,
    image_size: int | None = None,
    small_image_stem: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """Return torchvision's classification model `name` for `num_classes`, under torchvision's parameter names.

    `weights` (`DEFAULT`, `IMAGENET1K_V1`, ...) are downloaded; the head is then a new one, and a first
    convolution for other than 3 channels sums up the pretrained filters. `small_image_stem` gives a resnet
    a 3x3 convolution of stride 1 and no pooling, for images of about 32 pixels. `image_size` sizes a ViT's
    position embedding; with any model, a size that does not fit is a ConfigError here.
    """
    names = list_models(module=torchvision.models)
    if name not in names:
        raise ConfigError(
            f"model.name={name} is no classification model of torchvision.{did_you_mean(name, names)} "
            f"`python -c 'import torchvision; print(torchvision.models.list_models())'` lists them."
        )
    model = _build(name, num_classes, image_size, weights)
    if isinstance(model, GoogLeNet | Inception3):
        _drop_auxiliary_heads(model)
    if weights is not None:
        _replace_head(model, num_classes)
    if channels != 3:
        _replace_first_conv(model, channels, keep_filters=weights is not None)
    if small_image_stem:
        _shrink_stem(model, name, channels)
    if image_size is not None:
        check_image_size(model, name, channels, image_size)
    return model


def _build(name: str, num_classes: int, image_size: int | None, weights: str | None) -> nn.Module:
    arguments: dict[str, Any] = {"image_size": image_size} if name.startswith("vit_") and image_size else {}
    if weights is None:
        if name.startswith("vit_") and image_size:
            _check_patches(name, image_size)
        if name in ("googlenet", "inception_v3"):
            arguments["init_weights"] = True  # their default, but asked for without a warning
        return get_model(name, num_classes=num_classes, **arguments)
    known = ["DEFAULT", *(entry.name for entry in get_model_weights(name))]
    if weights not in known:
        raise ConfigError(
            f"model.weights={weights} is not known for model.name={name}.{did_you_mean(weights, known)} "
            f"Choose from {', '.join(known)}, or null for none."
        )
    entry = get_model_weights(name)[weights]
    size = entry.meta["min_size"][0]
    if arguments and image_size != size:
        raise ConfigError(
            f"data.image_size={image_size} does not fit model.weights={weights} of {name}, whose position "
            f"embedding is for {size} pixels: set data.image_size={size}, or model.weights=null."
        )
    try:
        return get_model(name, weights=entry, **arguments)
    except (URLError, OSError) as error:
        raise ConfigError(
            f"model.weights={weights}: downloading {entry.url} to {torch.hub.get_dir()} failed ({error}). "
            f"Put the file into its folder checkpoints/ yourself, or set model.weights=null."
        ) from error


def _check_patches(name: str, image_size: int) -> None:
    patch = int(name.rsplit("_", 1)[1])  # vit_b_16
    if image_size % patch:
        fitting = -(-image_size // patch) * patch
        raise ConfigError(
            f"data.image_size={image_size} is no multiple of the {patch} pixels of a patch of "
            f"model.name={name}: set data.image_size={fitting}."
        )


def check_image_size(model: nn.Module, name: str, channels: int, image_size: int, own_size: int = 224) -> None:
    """Try one image: there is no other way to know what sizes a model takes.

    Raises:
        ConfigError: it takes no images of `image_size` pixels; the message names the size it was made for.
    """
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, channels, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"data.image_size={image_size} does not fit model.name={name} ({str(error).splitlines()[0]}): "
            f"set data.image_size={own_size}, for which it was made."
        ) from error
    finally:
        model.train()


def _drop_auxiliary_heads(model: nn.Module) -> None:
    """Leave one output, the logits: with auxiliary heads these models return a tuple in training."""
    model.aux_logits = False  # type: ignore[assignment]
    model.transform_input = False  # type: ignore[assignment]  # inputs are normalised by the data set's own statistics
    for head in ("aux1", "aux2", "AuxLogits"):
        if hasattr(model, head):
            setattr(model, head, None)


def _replace_head(model: nn.Module, num_classes: int) -> None:
    """Put a new layer of `num_classes` where the pretrained head is: the last linear or 1x1 convolution."""
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    # Not simply the last one: in squeezenet and maxvit other layers may be registered after the head.
    name, head = next((name, m) for name, m in reversed(layers) if m.weight.shape[0] == 1000)
    if isinstance(head, nn.Linear):
        new: nn.Module = nn.Linear(head.in_features, num_classes, bias=head.bias is not None)
    else:
        new = nn.Conv2d(head.in_channels, num_classes, 1, bias=head.bias is not None)
    model.set_submodule(name, new)


def _replace_first_conv(model: nn.Module, channels: int, keep_filters: bool) -> None:
    name, old = next((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    with torch.no_grad():
        if keep_filters:
            # An image of equal channels gives the activations that it gave in three.
            new.weight.copy_(old.weight.mean(dim=1, keepdim=True) * (3 / channels))
        else:
            new.weight.normal_(std=old.weight.std().item())
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    model.set_submodule(name, new)


def _shrink_stem(model: nn.Module, name: str, channels: int) -> None:
    if not isinstance(model, ResNet):
        raise ConfigError(
            f"model.small_image_stem=true is for resnets, not for model.name={name}: "
            f"leave it out, or enlarge the images with data.image_size=224."
        )
    model.conv1 = nn.Conv2d(channels, model.conv1.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
