"""Walk a model: each parameter once, with its plain name, its owner and the owner's parent."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from optwrap.errors import ConfigError

# Modules that wrap another one and put this attribute's name into every parameter name.
_TRANSPARENT_ATTRIBUTES = frozenset({"module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})


@dataclass(slots=True, eq=False)  # not frozen: that makes building one three times as slow
class NamedParam:
    """A parameter as rules see it.

    `name` is that of the plain model (no `module.`, `_orig_mod.` or `_checkpoint_wrapped_module.`); `owner`
    holds the parameter directly as `attribute`; `parent` holds the owner (None at the root); `aliases` are
    further names of the same tensor (tied weights). The originals of a parametrized `weight` (weight_norm,
    ...) belong to the module whose `weight` they make.
    """

    name: str
    tensor: nn.Parameter
    owner: nn.Module
    attribute: str
    parent: nn.Module | None = None
    aliases: tuple[str, ...] = ()


def walk(model: nn.Module) -> list[NamedParam]:
    """Return every parameter of `model`, frozen ones included, in the order of `model.parameters()`.

    >>> [param.name for param in walk(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))]
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    found: dict[int, NamedParam] = {}
    # Over the dictionaries themselves: named_modules and named_parameters take several times as long.
    for module, prefix, owner, parent, parametrizes in _places(model):
        for attribute, tensor in module._parameters.items():
            if tensor is None:
                continue
            key = id(tensor)
            if key in found:
                found[key].aliases += (prefix + attribute,)
            else:
                found[key] = NamedParam(prefix + attribute, tensor, owner, parametrizes or attribute, parent)
    return list(found.values())


def submodules(model: nn.Module) -> dict[str, nn.Module]:
    """Return every module by its plain name, the model itself as ''; of a wrapper, the module inside.

    >>> list(submodules(nn.DataParallel(nn.Sequential(nn.ReLU()))))
    ['', '0']
    """
    # The innermost of a name comes last.
    return {prefix.removesuffix("."): owner for _, prefix, owner, _, _ in _places(model)}


# A module, what its parameters' names begin with ('' or with a dot at the end), what owns these, what holds the
# owner, and as what the owner holds them if they parametrize it. A bare tuple: there is one for each module.
_Place = tuple[nn.Module, str, nn.Module, nn.Module | None, str | None]


def _places(model: nn.Module) -> list[_Place]:
    places: list[_Place] = []
    _visit((model, "", model, None, None), places)
    return places


def _visit(place: _Place, places: list[_Place]) -> None:
    places.append(place)
    module, prefix, owner, parent, _ = place
    for attribute, child in module._modules.items():
        if child is None:
            continue
        if attribute in _TRANSPARENT_ATTRIBUTES and _is_transparent(owner, attribute):
            child_place: _Place = (child, prefix, child, owner, None)
        elif parent is not None and isinstance(child, ParametrizationList):  # `parent.parametrizations.attribute`
            child_place = (child, f"{prefix}{attribute}.", parent, parent, attribute)
        else:
            child_place = (child, f"{prefix}{attribute}.", child, owner, None)
        _visit(child_place, places)


def check_trainable(params: Sequence[NamedParam]) -> list[NamedParam]:
    """Return the trainable parameters.

    Raises:
        ConfigError: there are none, or a lazy module has no shape yet.
    """
    trainable = [param for param in params if param.tensor.requires_grad]
    if not trainable:
        raise ConfigError("The model has no trainable parameter: every requires_grad is False.")
    lazy = [param.name for param in trainable if is_lazy(param.tensor)]
    if lazy:
        raise ConfigError(f"Parameter {lazy[0]!r} has no shape yet: run one batch through the lazy model first.")
    return trainable


def unwrap(model: nn.Module) -> nn.Module:
    """Return the plain model inside DDP, `torch.compile` or checkpoint wrappers around all of it."""
    for name, child in model.named_children():
        if _is_transparent(model, name):
            return unwrap(child)
    return model


def _is_transparent(parent: nn.Module | None, attribute: str) -> bool:
    if attribute == "module":  # a name that plain models use as well, so the parent's type decides
        return isinstance(parent, DistributedDataParallel | DataParallel)
    return attribute in _TRANSPARENT_ATTRIBUTES
