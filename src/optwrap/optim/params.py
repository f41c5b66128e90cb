"""Walk a model: each parameter once, with its plain name, its owner and the owner's parent."""

from dataclasses import dataclass

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

# Modules that wrap another one and put this attribute's name into every parameter name.
_TRANSPARENT_ATTRIBUTES = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})


@dataclass(frozen=True)
class NamedParam:
    """A parameter as rules see it.

    `name` is that of the plain model (no `module.`, `_orig_mod.` or `_checkpoint_wrapped_module.`); `owner`
    holds the parameter directly, under the last part of `name`; `parent` holds the owner (None at the root);
    `aliases` are further names of the same tensor (tied weights).
    """

    name: str
    tensor: nn.Parameter
    owner: nn.Module
    parent: nn.Module | None = None
    aliases: tuple[str, ...] = ()


def walk(model: nn.Module) -> list[NamedParam]:
    """Return every parameter of `model`, frozen ones included, in the order of `model.parameters()`.

    >>> [param.name for param in walk(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))]
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    modules: dict[str, tuple[str, nn.Module]] = {}
    first: dict[int, NamedParam] = {}
    aliases: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        parent_path, _, attribute = path.rpartition(".")
        parent_name, parent = modules[parent_path] if path else ("", None)
        prefix = parent_name if _is_transparent(parent, attribute) else _join(parent_name, attribute)
        modules[path] = (prefix, module)
        for attribute, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            name = _join(prefix, attribute)
            if id(tensor) in first:
                aliases.setdefault(id(tensor), []).append(name)
            else:
                first[id(tensor)] = NamedParam(name, tensor, module, parent)
    return [
        NamedParam(p.name, p.tensor, p.owner, p.parent, tuple(aliases[key])) if key in aliases else p
        for key, p in first.items()
    ]


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
