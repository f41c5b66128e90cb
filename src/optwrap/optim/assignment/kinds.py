"""What kind of parameter it is, as far as `paramwise_cfg` tells kinds apart."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from optwrap.optim.assignment.params import NamedParam

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # _NormBase: batch, sync-batch and instance norm
_DEPTHWISE = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def is_norm(param: NamedParam) -> bool:
    """Whether a normalisation layer owns the parameter."""
    return isinstance(param.owner, _NORMS)


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


def is_bias(param: NamedParam) -> bool:
    """Whether the parameter is a bias, those of norm layers and of offset convs excluded.

    That is `bias`, attention's `in_proj_bias` and a recurrent layer's `bias_ih_l0`, but no table of biases.
    """
    named = param.attribute == "bias" or param.attribute.endswith("_bias") or param.attribute.startswith("bias_")
    return named and not is_norm(param) and not is_offset_conv(param)
