"""What kind of parameter it is, as far as `paramwise_cfg` tells kinds apart."""

import re
from collections.abc import Collection
from functools import cache

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from optwrap.optim.assignment.params import NamedParam

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # _NormBase: batch, sync-batch and instance norm
_LAYERS = (nn.Linear, nn.Bilinear, _ConvNd, nn.Embedding, nn.EmbeddingBag)  # whatever they are called
_DEPTHWISE = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

# `Affine` takes the place of a norm layer in networks without any; `Normal` and `NormFree` name other things.
_CALLED_NORM = re.compile(r"norm(?!al(?!i[sz])|_?free)|affine", re.IGNORECASE)
_CALLED_LAYER_NORM = re.compile(r"(?:layer|rms)_?norm(?:\dd|fp\d+)*$", re.IGNORECASE)


def is_norm(param: NamedParam, classes: Collection[str] = ()) -> bool:
    """Whether a normalisation layer owns the parameter: torch's, one that is called so, or one of `classes`.

    A class that has 'norm' or 'affine' in its name, or in that of a class it derives from, is one where its
    modules hold vectors alone; where the name ends in LayerNorm or RMSNorm, whatever they hold, such as a gain
    for each attention head.
    """
    owner = param.owner
    if isinstance(owner, _NORMS):
        return True
    if classes and any(cls.__name__ in classes for cls in type(owner).__mro__):
        return True
    called, as_layer = _called(type(owner))  # type: ignore[arg-type]
    return as_layer or (called and all(map(_is_vector, owner.parameters())))


@cache
def _called(cls: type) -> tuple[bool, bool]:
    """Return whether a class is called a norm, and whether it is called a layer norm or one of its kind."""
    if issubclass(cls, _LAYERS):
        return False, False
    names = [each.__name__ for each in cls.__mro__ if issubclass(each, nn.Module) and each is not nn.Module]
    return any(map(_CALLED_NORM.search, names)), any(map(_CALLED_LAYER_NORM.search, names))


def _is_vector(tensor: Tensor) -> bool:
    return tensor.ndim < 2 or tensor.numel() == max(tensor.shape)


def is_depthwise(param: NamedParam) -> bool:
    """Whether a depthwise convolution (groups == in_channels > 1) owns the parameter."""
    owner = param.owner
    return isinstance(owner, _DEPTHWISE) and owner.groups == owner.in_channels > 1


def is_offset_conv(param: NamedParam) -> bool:
    """Whether a conv named `conv_offset`, beside or inside a deformable conv, owns the parameter."""
    *_, owner_name, _ = ("", *param.name.rsplit(".", 2))
    if owner_name != "conv_offset" or param.parent is None or not isinstance(param.owner, _ConvNd):
        return False
    return any(_is_deformable(module) for module in (param.parent, *param.parent.children()))


def _is_deformable(module: nn.Module) -> bool:
    # By name: torchvision's DeformConv2d and those of other libraries, without importing any of them.
    return any("DeformConv" in cls.__name__ for cls in type(module).__mro__)


def is_bias(param: NamedParam, norm_classes: Collection[str] = ()) -> bool:
    """Whether the parameter is a bias, those of norm layers and of offset convs excluded.

    That is `bias`, attention's `in_proj_bias` and a recurrent layer's `bias_ih_l0`, but no table of biases.
    """
    named = param.attribute == "bias" or param.attribute.endswith("_bias") or param.attribute.startswith("bias_")
    return named and not is_norm(param, norm_classes) and not is_offset_conv(param)


def is_undecayed(param: NamedParam, norm_classes: Collection[str] = ()) -> bool:
    """Whether `no_decay_1d` spares the parameter: of a norm layer, a bias, or a vector or single number."""
    return param.tensor.ndim < 2 or is_norm(param, norm_classes) or is_bias(param, norm_classes)
