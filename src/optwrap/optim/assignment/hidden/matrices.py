"""Which parameters are hidden matrices, and how each is cut into them."""

import re
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.assignment.head import embedding_weights, head_layers
from optwrap.optim.assignment.hidden.cut import LEAST, Cut, Hidden
from optwrap.optim.assignment.hidden.fused import cut_fused
from optwrap.optim.assignment.kinds import is_norm
from optwrap.optim.assignment.params import NamedParam, walk

_EXPERTS = re.compile(r".*expert.*", re.IGNORECASE)
_ROUTER = re.compile(r".*router.*", re.IGNORECASE)
_COUNTS = ("num_experts", "moe_num_experts", "n_experts", "num_local_experts")


def hidden_matrices(
    model: nn.Module, head: Sequence[str] = (), convolutions: bool = True, split_fused: Any = None
) -> list[Hidden]:
    """Return the parameters that are matrices of layers, other than embeddings, the head and routers.

    Those are weights of two dimensions; `convolutions`, with all but the output channels as columns; and experts,
    a matrix each. Both sides are at least 4 long, of a convolution the channels, so that those of images and
    depthwise ones are none. Tokens and positions that a model holds as bare parameters are none.

    Args:
        head: parts of names of the head; where it is empty, the head is found (see `head_layers`).
        split_fused: which are cut further, as qkv projections are (see `cut_fused`).

    Raises:
        ConfigError: a part in `head` or `split_fused` matches nothing, or the head is not clear.

    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9))
    >>> [each.param.name for each in hidden_matrices(model)]
    ['1.weight']
    """
    params = walk(model)
    for part in head:
        if not any(_is_called(param, part) for param in params):
            names = (param.name.rpartition(".")[0] or param.name for param in params)
            raise ConfigError(f"optim_wrapper.head: {part!r} matches no parameter.{did_you_mean(part, names)}")
    embeddings = embedding_weights(model)
    found = [
        Hidden(param, cut)
        for param in params
        if id(param.tensor) not in embeddings and (cut := _cut(param, convolutions)) is not None
    ]
    if head:
        found = [each for each in found if not any(_is_called(each.param, part) for part in head)]
    else:
        of_head = {id(param) for layer in head_layers(model) for param in layer.parameters()}
        found = [each for each in found if id(each.param.tensor) not in of_head]
    return cut_fused(found, split_fused)


def _is_called(param: NamedParam, part: str) -> bool:
    return any(part in name for name in (param.name, *param.aliases))


def _cut(param: NamedParam, convolutions: bool) -> Cut | None:
    """Return how the parameter is cut into matrices; None where it is none."""
    shape = param.tensor.shape
    if len(shape) < 2 or "bias" in param.attribute or _is_router(param) or is_norm(param):
        return None
    if _is_of_experts(param):
        return _of_experts(param)
    if min(shape[:2]) < LEAST or "weight" not in param.attribute:
        return None
    if len(shape) == 2:
        return Cut()
    return Cut() if convolutions and _is_convolution(param.owner) else None


def _is_convolution(owner: nn.Module) -> bool:
    """Whether it is one of torch's, or has the fields of one, as deformable convolutions do."""
    return isinstance(owner, _ConvNd) or all(hasattr(owner, name) for name in ("in_channels", "kernel_size"))


def _is_of_experts(param: NamedParam) -> bool:
    """Whether a module that is called experts holds it for all of them, in one tensor."""
    is_layer = isinstance(param.owner, nn.Linear | _ConvNd)
    return not is_layer and _EXPERTS.fullmatch(type(param.owner).__name__) is not None


def _of_experts(param: NamedParam) -> Cut | None:
    shape = param.tensor.shape
    if len(shape) == 3:
        return Cut(stacked=True) if min(shape[1:]) >= LEAST else None
    count = next((each for name in _COUNTS if isinstance(each := getattr(param.owner, name, None), int)), 0)
    if len(shape) != 2 or not count or shape[0] % count or min(shape[0] // count, shape[1]) < LEAST:
        return None
    return Cut(sizes=(shape[0] // count,) * count)  # one under the other


def _is_router(param: NamedParam) -> bool:
    """Whether it chooses experts: a module called router, or a gate beside experts, holds it."""
    modules = param.name.split(".")[:-1]
    if any(map(_ROUTER.fullmatch, modules)) or _ROUTER.fullmatch(type(param.owner).__name__):
        return True
    if param.parent is None or not modules or modules[-1] not in ("gate", "gating"):
        return False
    return any(_EXPERTS.fullmatch(name) for name, _ in param.parent.named_children())
