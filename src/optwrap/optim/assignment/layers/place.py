"""Which layer a parameter outside of the blocks belongs to: the stem, the head, or the block that follows."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import nn

from optwrap.optim.assignment.blocks import Block, layer_ids, numbers, prefixes_of
from optwrap.optim.assignment.head import is_named_head
from optwrap.optim.assignment.kinds import is_norm
from optwrap.optim.assignment.params import NamedParam

_FINAL_NORM = re.compile(
    r"(?:\w*_)?(?:final|last|post|out(?:put)?)_\w*|\w+_(?:f|final|last|post|out)", re.IGNORECASE
)
_OUTPUT = re.compile(r"proj(?:ect)?_out|\w*aux(?:iliary)?_?(?:head|logits|classifier)\w*|aux\d*", re.IGNORECASE)
_BETWEEN = re.compile(r"(?:\w*_)?(?:downsampl\w*|transitions?|(?:patch_)?merg\w*|patch_embed\w*)", re.IGNORECASE)
_POSITION = re.compile(r"\w*(?:pos_?emb|position|(?:cls|class|reg|register|mask|dist)_?tok)\w*")


def layer_of_each(
    params: Sequence[NamedParam], blocks: Sequence[Block], head: Sequence[str] = ()
) -> dict[str, int]:
    """Return the layer of each parameter: 0 the stem, i the i-th block, n + 1 the head.

    Outside of the blocks what a parameter is decides before the order of definition: the norm after the last
    block and what is called a head are the head's wherever they are defined, embeddings and positions the
    stem's, and the i-th entry of a list of downsamplings beside a list of stages goes with the i-th stage; the
    order tells of all else (see `layer_ids`).

    Raises:
        ConfigError: a prefix of the head is that of no parameter.
    """
    names = [param.name for param in params]
    ids = layer_ids(names, blocks, head)
    block_of, of_head = numbers(names, blocks), numbers(names, head)
    last = len(blocks) + 1
    prefixes = [prefix for block in blocks for prefix in ([block] if isinstance(block, str) else block)]
    stages = _stages(prefixes)
    between = _between(names, block_of)
    for param in params:
        name = param.name
        if block_of[name] or of_head[name]:
            continue
        if (ids[name] == 0 and _is_of_head(param)) or _is_output(param):
            ids[name] = last
        elif _is_embedding(param) or (_is_position(param) and stages.isdisjoint(prefixes_of(name))):
            ids[name] = 0
        elif name in between:
            ids[name] = between[name]
    return ids


def _between(names: Sequence[str], block_of: Mapping[str, int]) -> dict[str, int]:
    """Return the layers of what a list of downsamplings holds, an entry for each of the stages listed beside it.

    With one entry less than there are stages, it is the first stage that has none; with one for each, the first
    one is the stem.
    """
    lists: dict[str, dict[str, list[str]]] = {}  # what holds numbered entries, then these, with their parameters
    for name in names:
        for entry in prefixes_of(name):
            holder, _, attribute = entry.rpartition(".")
            if attribute.isdigit():
                lists.setdefault(holder, {}).setdefault(entry, []).append(name)
    first = {  # the first block in each entry
        holder: [min((block_of[name] for name in each if block_of[name]), default=0) for each in entries.values()]
        for holder, entries in lists.items()
    }
    found: dict[str, int] = {}
    for holder, entries in lists.items():
        parent, _, attribute = holder.rpartition(".")
        if not _BETWEEN.fullmatch(attribute) or any(first[holder]):
            continue
        beside = [layers for other, layers in first.items() if other.rpartition(".")[0] == parent and all(layers)]
        for layers in (layers for layers in beside if 0 <= len(layers) - len(entries) <= 1):
            pairs = zip(reversed(entries.values()), reversed(layers[1:]), strict=False)
            found |= {name: layer for each, layer in pairs for name in each}
    return found


def _stages(blocks: Sequence[str]) -> set[str]:
    """Return the names of what holds some of the blocks, but not all."""
    paths = [prefixes_of(block)[:-1] for block in blocks]
    holders = Counter(name for path in paths for name in path)
    return {name for name, count in holders.items() if count < len(blocks)}


def _is_of_head(param: NamedParam) -> bool:
    """Whether what is defined before the blocks is none of the stem."""
    *modules, _ = param.name.split(".")
    if not modules:
        return param.tensor.numel() == 1  # the scale of the logits
    return any(map(is_named_head, modules)) or (is_norm(param) and _FINAL_NORM.fullmatch(modules[-1]) is not None)


def _is_output(param: NamedParam) -> bool:
    *modules, _ = param.name.split(".")
    return any(map(_OUTPUT.fullmatch, modules))


def _is_embedding(param: NamedParam) -> bool:
    """Whether it is of an embedding, or of the norm behind one, as in `layernorm_embedding`."""
    *modules, _ = param.name.split(".")
    if any(map(is_named_head, modules)):  # `embed_out`
        return False
    return isinstance(param.owner, nn.Embedding) or (is_norm(param) and "emb" in "".join(modules[-1:]).lower())


def _is_position(param: NamedParam) -> bool:
    """Whether it is a table of positions or a token that a module holds without a layer around it."""
    is_bare = not isinstance(param.owner, nn.Linear) and param.tensor.ndim > 1
    return is_bare and _POSITION.fullmatch(param.attribute) is not None
