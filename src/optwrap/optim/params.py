"""Walk a model: each parameter once, with its plain name, its owner and the owner's parent."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.parametrize import ParametrizationList

# Modules that wrap another one and put this attribute's name into every parameter name.
_TRANSPARENT_ATTRIBUTES = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})


@dataclass(frozen=True)
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
    modules: dict[str, _Place] = {}
    first: dict[int, NamedParam] = {}
    aliases: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        place = modules[path] = _place(path, module, modules)
        for attribute, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            name = _join(place.prefix, attribute)
            if id(tensor) in first:
                aliases.setdefault(id(tensor), []).append(name)
            else:
                attribute = place.parametrizes or attribute
                first[id(tensor)] = NamedParam(name, tensor, place.owner, attribute, place.parent)
    return [replace(p, aliases=tuple(aliases[key])) if key in aliases else p for key, p in first.items()]


@dataclass(frozen=True)
class _Place:
    """Where a module stands: its plain name, and what owns its parameters."""

    prefix: str
    owner: nn.Module
    parent: nn.Module | None
    parametrizes: str | None = None


def _place(path: str, module: nn.Module, modules: Mapping[str, _Place]) -> _Place:
    if not path:
        return _Place("", module, None)
    parent_path, _, attribute = path.rpartition(".")
    parent = modules[parent_path]
    if isinstance(module, ParametrizationList):  # at `owner.parametrizations.attribute`
        return _Place(
            _join(parent.prefix, attribute),
            modules[parent_path.rpartition(".")[0]].owner,
            parent.parent,
            attribute,
        )
    prefix = parent.prefix if _is_transparent(parent.owner, attribute) else _join(parent.prefix, attribute)
    return _Place(prefix, module, parent.owner)


def submodules(model: nn.Module) -> dict[str, nn.Module]:
    """Return every module by its plain name, the model itself as ''; of a wrapper, the module inside.

    >>> list(submodules(nn.DataParallel(nn.Sequential(nn.ReLU()))))
    ['', '0']
    """
    places: dict[str, _Place] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        places[path] = _place(path, module, places)
    return {place.prefix: place.owner for place in places.values()}  # the innermost of a name comes last


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


def _join(prefix: str, attribute: str) -> str:
    return f"{prefix}.{attribute}" if prefix and attribute else prefix or attribute
