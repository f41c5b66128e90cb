"""Walk a model: each parameter once, with its plain name, its owner and the owner's parent."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parallel import DataParallel
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
    ...) belong to the module whose `weight` they make. `spared`: the `no_weight_decay()` of the outermost
    module that has one names it, as timm's models do.
    """

    name: str
    tensor: nn.Parameter
    owner: nn.Module
    attribute: str
    parent: nn.Module | None = None
    aliases: tuple[str, ...] = ()
    spared: bool = False


def walk(model: nn.Module) -> list[NamedParam]:
    """Return every parameter of `model`, frozen ones included, in the order of `model.parameters()`.

    >>> [param.name for param in walk(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))]
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    found: dict[int, NamedParam] = {}
    places = _places(model)
    # Over the dictionaries themselves: named_modules and named_parameters take several times as long.
    for module, prefix, owner, parent, parametrizes in places:
        for attribute, tensor in module._parameters.items():
            if tensor is None:
                continue
            key = id(tensor)
            if key in found:
                found[key].aliases += (prefix + attribute,)
            else:
                found[key] = NamedParam(prefix + attribute, tensor, owner, parametrizes or attribute, parent)
    params = list(found.values())
    outer: str | None = None  # what speaks for all inside it, as timm's models do for their layers
    for module, prefix, *_ in places:
        method = getattr(type(module), "no_weight_decay", None)
        if callable(method) and (outer is None or not prefix.startswith(outer)):
            outer = prefix
            _spare(params, prefix, method(module))
    return params


def _spare(params: Sequence[NamedParam], prefix: str, patterns: Collection[str]) -> None:
    """Mark what the patterns name, which may hold stars; names are those inside the module of that prefix."""
    names = {prefix + pattern for pattern in patterns}
    stars = [name for name in names if any(sign in name for sign in "*?[")]
    for param in params:
        if param.name in names or any(fnmatchcase(param.name, star) for star in stars):
            param.spared = True


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


def children_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the full names of each module's children, from the names of all of them.

    >>> children_of(["", "a", "a.b", "a.c"])
    {'': ['a'], 'a': ['a.b', 'a.c']}
    """
    children: dict[str, list[str]] = {}
    for name in names:
        if name:
            children.setdefault(name.rpartition(".")[0], []).append(name)
    return children


def _places(model: nn.Module) -> list[_Place]:
    places: list[_Place] = []
    _visit((model, "", model, None, None), places, set(), set())
    return places


def _visit(place: _Place, places: list[_Place], seen: set[int], around: set[int], again: bool = False) -> None:
    """Add the place and what lies below it; `seen` was visited, `around` holds the place.

    A module that is reached again adds its further names, with each module inside it once. Every name of each
    would be too much: where two children of each level are one module, the names double with the levels.
    """
    places.append(place)
    key = id(place[0])
    seen.add(key)
    around.add(key)
    for below in _below(place):
        child = id(below[0])
        if child in around:  # it holds its parent, which is no part of it
            continue
        if child not in seen:
            _visit(below, places, seen, around, again)
        elif not again:
            _visit(below, places, set(), around, True)
    around.remove(key)


def _below(place: _Place) -> list[_Place]:
    module, prefix, owner, parent, _ = place
    below: list[_Place] = []
    for attribute, child in module._modules.items():
        if child is None:
            continue
        if attribute in _TRANSPARENT_ATTRIBUTES and _is_transparent(owner, attribute):
            below.append((child, prefix, child, owner, None))
        elif parent is not None and isinstance(child, ParametrizationList):  # `parent.parametrizations.attribute`
            below.append((child, f"{prefix}{attribute}.", parent, parent, attribute))
        else:
            below.append((child, f"{prefix}{attribute}.", child, owner, None))
    return below


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


def holds_back(module: nn.Module) -> bool:
    """Whether a module's class has a context `no_sync`, so that it averages gradients between processes."""
    # Not the module's attribute: a compiled one hands on those of what it holds.
    return callable(getattr(type(module), "no_sync", None))


def _is_transparent(parent: nn.Module | None, attribute: str) -> bool:
    if attribute == "module":  # a name that plain models use as well, so the parent's type decides
        return isinstance(parent, DataParallel) or (parent is not None and holds_back(parent))
    return attribute in _TRANSPARENT_ATTRIBUTES
