"""Which layers of a model are its head: ties, use and names tell, not the order of definition."""

import re
from collections.abc import Mapping, Sequence

from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim.assignment.blocks import children_of
from optwrap.optim.assignment.params import submodules

_NAME = re.compile(r"(?:.*_)?(?:heads?|classifier|logits)|fc|cls|score|out|output|output_projection|embed_out")


def is_named_head(component: str) -> bool:
    """Whether a component of a parameter's name is what heads are called.

    >>> [is_named_head(name) for name in ("lm_head", "fc", "header", "stem")]
    [True, True, False, False]
    """
    return _NAME.fullmatch(component) is not None


def embedding_weights(model: nn.Module) -> set[int]:
    """Return the ids of the weights of embeddings, under whatever other name a layer holds them too."""
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)]
    return {id(module.weight) for module in embeddings}


def head_layers(model: nn.Module) -> list[nn.Linear]:
    """Return the linear layers that are the model's head; there may be none.

    That is the one tied to an embedding, else the only one that may come last, else those named so. Inside a
    Sequential the last comes last; stacked blocks are no head.

    Raises:
        ConfigError: several may be, and neither ties nor names tell.
    """
    modules = submodules(model)
    found = {id(modules[name]): name for name in _candidates("", modules, children_of(modules))}
    names = list(found.values())  # a layer with two names is one
    embeddings = embedding_weights(model)
    tied = [name for name in names if id(modules[name].weight) in embeddings]
    names = tied or (names if len(names) < 2 else _outermost_named(names))
    return [module for name in names if isinstance(module := modules[name], nn.Linear)]


def _candidates(path: str, modules: Mapping[str, nn.Module], children: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the linear layers that may be used last."""
    module, own = modules[path], children.get(path, [])
    if isinstance(module, nn.Linear):
        return [path]
    if isinstance(module, nn.MultiheadAttention) or _are_blocks(module, [modules[name] for name in own]):
        return []
    if isinstance(module, nn.Sequential):  # what it holds is used in this order
        own = [name for name in own if any(isinstance(each, nn.Linear) for each in modules[name].modules())][-1:]
    return [found for name in own for found in _candidates(name, modules, children)]


def _are_blocks(container: nn.Module, modules: Sequence[nn.Module]) -> bool:
    """Whether a container stacks equal modules made of several layers."""
    if not isinstance(container, nn.Sequential | nn.ModuleList) or not modules:
        return False
    if len({type(module) for module in modules}) > 1 or not all(any(each.children()) for each in modules):
        return False
    shapes = [[param.shape for param in module.parameters()] for module in modules[-2:]]
    return shapes[0] == shapes[-1] and (len(modules) > 1 or isinstance(container, nn.ModuleList))


def _outermost_named(names: Sequence[str]) -> list[str]:
    depths = {}
    for name in names:
        named = [depth for depth, component in enumerate(name.split(".")) if is_named_head(component)]
        if named:
            depths[name] = named[0]
    if not depths:
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise ConfigError(
            f"optim_wrapper.head is not set, and which linear layer is the head is not clear: {shown}. List the "
            f"head's parts of names: optim_wrapper.head=[{names[-1]}]."
        )
    return [name for name, depth in depths.items() if depth == min(depths.values())]
