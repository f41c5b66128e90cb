"""Which layer a parameter outside of the blocks belongs to: the stem, the head, or the block that follows."""

import re
from collections import Counter
from collections.abc import Sequence

from torch import nn

from optwrap.optim.assignment.blocks import layer_ids, numbers, prefixes_of
from optwrap.optim.assignment.head import is_named_head
from optwrap.optim.assignment.kinds import is_norm
from optwrap.optim.assignment.params import NamedParam

_FINAL_NORM = re.compile(
    r"(?:\w*_)?(?:final|last|post|out(?:put)?)_\w*|\w+_(?:f|final|last|post|out)", re.IGNORECASE
)
_OUTPUT = re.compile(r"proj(?:ect)?_out|\w*aux(?:iliary)?_?(?:head|logits|classifier)\w*|aux\d*", re.IGNORECASE)
_POSITION = re.compile(r"\w*(?:pos_?emb|position|(?:cls|class|reg|register|mask|dist)_?tok)\w*")


def layer_of_each(params: Sequence[NamedParam], blocks: Sequence[str], head: Sequence[str] = ()) -> dict[str, int]:
    """Return the layer of each parameter: 0 the stem, i the i-th block, n + 1 the head.

    Outside of the blocks what a parameter is decides before the order of definition: the norm after the last
    block and what is called a head are the head's wherever they are defined, embeddings and positions the
    stem's; the order tells of all else (see `layer_ids`).

    Raises:
        ConfigError: a prefix of the head is that of no parameter.
    """
    names = [param.name for param in params]
    ids = layer_ids(names, blocks, head)
    block_of, of_head = numbers(names, blocks), numbers(names, head)
    last = len(blocks) + 1
    stages = _stages(blocks)
    for param in params:
        name = param.name
        if block_of[name] or of_head[name]:
            continue
        if (ids[name] == 0 and _is_of_head(param)) or _is_output(param):
            ids[name] = last
        elif _is_embedding(param) or (_is_position(param) and stages.isdisjoint(prefixes_of(name))):
            ids[name] = 0
    return ids


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
