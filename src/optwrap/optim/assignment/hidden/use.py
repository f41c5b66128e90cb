"""Which layers are used last, as far as containers and sizes tell."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from optwrap.optim.assignment.layers.stacks import find_stacks
from optwrap.optim.assignment.layers.tree import tree_of
from optwrap.optim.assignment.params import submodules

Layer = nn.Linear | _ConvNd
Layers = dict[str, Layer]


def layers_outside_blocks(model: nn.Module, is_head: Callable[[str], Any]) -> Layers:
    """Return linear layers and convolutions by name, less those in blocks and in attention; each once.

    `is_head` tells of a component of a name whether a head is called so: it is no block.
    """
    modules = submodules(model)
    found_blocks = [block for stack in find_stacks(tree_of(model)) for block in stack.blocks]
    blocks = {block.name for block in found_blocks if block.weights > 1 and not is_head(block.attribute)}
    found: dict[int, str] = {}
    inside: set[str] = set()
    for name, module in modules.items():
        if (name and name.rpartition(".")[0] in inside) or name in blocks or _holds_no_head(module):
            inside.add(name)
        elif isinstance(module, nn.Linear | _ConvNd):
            found.setdefault(id(module), name)
    return {name: modules[name] for name in found.values()}  # type: ignore[misc]


def _holds_no_head(module: nn.Module) -> bool:
    """Whether it is attention, or stacks equal modules made of several layers."""
    modules = list(module.children())
    if not isinstance(module, nn.Sequential | nn.ModuleList) or not modules:
        return isinstance(module, nn.MultiheadAttention)
    if len({type(each) for each in modules}) > 1 or not all(any(each.children()) for each in modules):
        return False
    shapes = [[param.shape for param in each.parameters()] for each in modules[-2:]]
    return shapes[0] == shapes[-1] and (len(modules) > 1 or isinstance(module, nn.ModuleList))


def last_in_order(layers: Layers, modules: Mapping[str, nn.Module]) -> Layers:
    """Return the layers behind which no other of them stands in a Sequential that holds both."""
    last: dict[str, int] = {}
    for name in layers:
        for path, place in _places(name, modules):
            last[path] = max(last.get(path, 0), place)
    return {
        name: layer
        for name, layer in layers.items()
        if all(last[path] == place for path, place in _places(name, modules))
    }


def _places(name: str, modules: Mapping[str, nn.Module]) -> list[tuple[str, int]]:
    """Return each Sequential that holds a layer, and where in it the layer stands."""
    parts = name.split(".")
    paths = [".".join(parts[:i]) for i in range(len(parts))]
    return [
        (path, list(modules[path]._modules).index(part))
        for path, part in zip(paths, parts, strict=True)
        if isinstance(modules[path], nn.Sequential)
    ]


def nothing_takes(layers: Layers, takers: Collection[nn.Module]) -> Layers:
    """Return the layers whose output fits the input of no other module: what comes last has no taker.

    Normalisation counts as a taker of a convolution.
    """
    each_once = {id(each): each for each in takers}
    linear, norms = Counter(map(_input, each_once.values())), set(map(_normed, each_once.values()))
    found: Layers = {}
    for name, layer in layers.items():
        out = _output(layer)
        others = linear[out] - (_input(layer) == out and id(layer) in each_once)
        if not others and not (isinstance(layer, _ConvNd) and out in norms):
            found[name] = layer
    return found


def behind_others(layers: Layers, givers: Collection[nn.Module]) -> Layers:
    """Return the layers whose input fits the output of another module; others come first."""
    outputs = Counter(_output(each) for each in givers if isinstance(each, nn.Linear | _ConvNd))
    outputs.update(each.embedding_dim for each in givers if isinstance(each, nn.Embedding))
    return {
        name: layer
        for name, layer in layers.items()
        if outputs[_input(layer) or 0] > (_output(layer) == _input(layer))
    }


def not_normed(layers: Layers, modules: Mapping[str, nn.Module]) -> Layers:
    """Return the layers beside which stands no norm that fits their output.

    A norm that fits a linear layer's input too may stand before it.
    """
    norms = {name: size for name, module in modules.items() if (size := _normed(module)) is not None}
    beside = {(name.rpartition(".")[0], size) for name, size in norms.items()}
    return {
        name: layer
        for name, layer in layers.items()
        if (name.rpartition(".")[0], _output(layer)) not in beside
        or (isinstance(layer, nn.Linear) and _output(layer) == _input(layer))
        or "." not in name
    }


def _output(layer: Layer) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _input(module: nn.Module) -> int | None:
    """Return how many features or channels a layer takes."""
    for name in ("in_features", "in_channels", "embed_dim", "input_size"):
        if isinstance(size := getattr(module, name, None), int):
            return size
    return None


def _normed(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear | _ConvNd | nn.Embedding):
        return None
    weight = module._parameters.get("weight")
    return len(weight) if weight is not None and weight.ndim == 1 else None
