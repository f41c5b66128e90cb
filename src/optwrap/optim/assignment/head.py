"""Which layers of a model are its head: ties, use and names tell, not the order of definition."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping

from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim.assignment.hidden.use import (
    Layer,
    Layers,
    behind_others,
    last_in_order,
    layers_outside_blocks,
    not_normed,
    nothing_takes,
)
from optwrap.optim.assignment.params import submodules

_NAME = re.compile(r"(?:.*_)?(?:heads?|classifier|logits)|fc|cls|score|out|output|output_projection|embed_out")
_HEAD = re.compile(
    r"(?:.*_)?(?:heads?|classifiers?|logits|predict(?:or|ion)s?)(?:_.+|\d+)?|aux\w*"
    r"|(?:text|visual|image|audio)_projection",
    re.IGNORECASE,
)
_WEAK = re.compile(r"fc|cls|score|out|output|output_projection|embed_out|proj_out")  # what hidden layers are too
_NO_HEAD = re.compile(
    r"pre_?(?:logits|classifier|head)|conv_head|last_conv|aligner|merger|neck|connector"
    r"|(?:.*_)?(?:pos|position|q|k|v|kv|qkv)(?:_.*)?|.*(?:embed|stem|patch|pool|downsampl|attn|attention).*",
    re.IGNORECASE,
)
_INSIDE = re.compile(r"dense|.*mlp.*")  # layers of a head that others of it follow


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


def head_layers(model: nn.Module) -> list[Layer]:
    """Return the linear layers and convolutions that are the model's head; there may be none, or several.

    Of layers outside the blocks, those tied to an embedding, and the last of each module that is called a head;
    where there are none, those whose output no other module takes. What is last, containers and sizes tell.

    Raises:
        ConfigError: several may be, and neither ties, names nor sizes tell.
    """
    modules = submodules(model)
    layers = not_normed(_candidates(model), modules)
    embeddings = embedding_weights(model)
    found = {name: layer for name, layer in layers.items() if id(layer.weight) in embeddings}
    for group in _called_heads(layers).values():
        found |= _last(group, modules)
    weak = {name: layer for name, layer in layers.items() if any(map(_WEAK.fullmatch, name.split(".")))}
    found |= nothing_takes(weak, modules.values())
    inside = {name: layer for name, layer in found.items() if name.endswith(".dense")}
    ends = nothing_takes(inside, found.values())
    found = {name: layer for name, layer in found.items() if name not in inside or name in ends}
    return list((found or _unnamed(layers, modules)).values())


def _candidates(model: nn.Module) -> Layers:
    layers = layers_outside_blocks(model, _HEAD.fullmatch)
    return {name: each for name, each in layers.items() if not any(map(_NO_HEAD.fullmatch, name.split(".")))}


def _called_heads(layers: Layers) -> dict[str, Layers]:
    """Return the layers in each outermost module, or layer, that is called a head."""
    groups: dict[str, Layers] = defaultdict(dict)
    for name, layer in layers.items():
        parts = name.split(".")
        depth = next((i for i, part in enumerate(parts) if _HEAD.fullmatch(part)), None)
        if depth is not None:
            groups[".".join(parts[: depth + 1])][name] = layer
    return groups


def _last(layers: Layers, modules: Mapping[str, nn.Module]) -> Layers:
    last = last_in_order(layers, modules)
    if len(last) == 1:
        return last
    free = nothing_takes(last, layers.values())
    if not free:  # of a residual MLP each layer takes what the other gives
        last = {name: each for name, each in last.items() if not any(map(_INSIDE.fullmatch, name.split(".")))}
    if not free and last:
        raise _unclear(last)
    # What convolutions give is flattened for the linear layers beside them.
    linear = {name.rpartition(".")[0] for name, each in free.items() if isinstance(each, nn.Linear)}
    return {
        name: each
        for name, each in free.items()
        if isinstance(each, nn.Linear) or name.rpartition(".")[0] not in linear
    }


def _unnamed(layers: Layers, modules: Mapping[str, nn.Module]) -> Layers:
    linear: Layers = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}
    if isinstance(modules[""], nn.Sequential):
        return last_in_order(layers, modules)
    last = last_in_order(linear, modules)
    free = nothing_takes(last, modules.values())
    behind = behind_others(last, modules.values())
    if not free and len(behind) > 1:
        raise _unclear(behind)
    return free


def _unclear(layers: Collection[str]) -> ConfigError:
    names = list(layers)
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return ConfigError(
        f"optim_wrapper.head is not set, and which layer is the head is not clear: {shown}. List the head's parts "
        f"of names: optim_wrapper.head=[{names[-1]}]."
    )
