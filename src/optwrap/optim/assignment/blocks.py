"""The blocks of a model, such as a transformer's layers, and which of them each parameter belongs to."""

from collections.abc import Mapping, Sequence

from torch import nn

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.assignment.layers.stacks import Stack, find_stacks, one_chain
from optwrap.optim.assignment.layers.tree import Node, tree_of
from optwrap.optim.assignment.params import children_of, submodules
from optwrap.optim.assignment.paramwise import KEY

_BEFORE = ("backbone", "encoder")  # what runs before the other parts of a model

Block = str | Sequence[str]
"""The prefix of a block, or those of several modules that are one; without any it holds nothing."""


def layer_ids(names: Sequence[str], blocks: Sequence[Block], head: Sequence[str] = ()) -> dict[str, int]:
    """Number parameters by layer: 0 before the first block, i in block i, then n + 1; pure, in model order.

    What lies between two blocks (downsampling) belongs to the block that follows. `head` names prefixes that
    are n + 1 wherever they stand.

    Raises:
        ConfigError: a prefix of the head is that of no parameter.

    >>> layer_ids(["embed", "layers.0.w", "layers.1.w", "norm", "head.w"], ["layers.0", "layers.1"])
    {'embed': 0, 'layers.0.w': 1, 'layers.1.w': 2, 'norm': 3, 'head.w': 3}
    """
    _check_head(names, head)
    block_of = numbers(names, blocks)
    of_head = numbers(names, head)
    ids: dict[str, int] = {}
    last = len(blocks) + 1
    following = last
    for name in reversed(names):  # what follows decides, so go backwards
        if of_head[name]:
            ids[name] = last
            continue
        following = block_of[name] or following
        ids[name] = following
    first = next((i for i, name in enumerate(names) if block_of[name]), 0)
    stem = {name: 0 for name in names[:first] if ids[name] != last}
    return {name: stem.get(name, ids[name]) for name in names}


def find_blocks(model: nn.Module, by: str = "block") -> list[str]:
    """Return the prefixes of the model's blocks, or with `by='stage'` of the stages that they lie in.

    See `find_stacks` for what a block is. An encoder's blocks come before its decoder's; a copy that is frozen, as
    a momentum encoder, has none where others are trained.

    Raises:
        ConfigError: there are none, or stacks whose order only the user knows, or that run in parallel (the
            towers of CLIP); the message lists all of them. Or a backbone has none beside a decoder that has.
    """
    root = tree_of(model)
    stacks = find_stacks(root)
    stacks = [stack for stack in stacks if any(map(_is_trained, stack.blocks))] or stacks
    chain = one_chain(stacks)
    if chain:
        _check_beside(root, chain, by)
        return [node.name for stack in chain for node in (stack.stages if by == "stage" else stack.blocks)]
    what = f"{KEY}.decay_by={by}: "
    if not stacks:
        children = ", ".join(child.name for child in root.children) or "none"
        raise ConfigError(
            f"{what}no blocks found in {type(root.module).__name__}, whose children are {children}. List "
            f"their prefixes in order: {KEY}.blocks=[layer1,layer2], or ['encoder.layer.*'] for every child of a "
            "container."
        )
    raise ConfigError(
        f"{what}the blocks of {type(root.module).__name__} are not those of one stack. There are "
        f"{'; '.join(map(_shown, stacks))}. List, in order, those that run one after another: {KEY}.blocks=[...]. "
        "Where some run side by side, list those of the one that is trained, and what else is trained with it in "
        f"{KEY}.head; or give each its own wrapper (optim_wrapper=multi)."
    )


def _is_trained(node: Node) -> bool:
    return any(param.requires_grad for param in node.module.parameters())


def _check_beside(root: Node, chain: Sequence[Stack], by: str) -> None:
    """Raise ConfigError where a trained backbone has no blocks, and all of it would count as the stem."""
    of_blocks = {prefix for stack in chain for block in stack.blocks for prefix in prefixes_of(block.name)}
    nodes = [root]
    while nodes:
        node = nodes.pop()
        nodes += [child for child in node.children if child.name in of_blocks]
        for child in node.children:
            aside = child.name not in of_blocks and node.name not in {stack.name for stack in chain}
            if aside and child.attribute in _BEFORE and child.weights > 1 and _is_trained(child):
                raise ConfigError(
                    f"{KEY}.decay_by={by}: blocks were found in {', '.join(stack.name for stack in chain)}, "
                    f"but none in {child.name}, whose lr would be lowest throughout. List those of both in order: "
                    f"{KEY}.blocks=[{child.name},{','.join(_short(chain[0]))}]."
                )


def _short(stack: Stack) -> list[str]:
    return [f"'{prefix}'" if prefix.endswith("*") else prefix for prefix in stack.prefixes]


def _shown(stack: Stack) -> str:
    prefixes = _short(stack)
    listed = ",".join(prefixes if len(prefixes) < 9 else [*prefixes[:4], "...", prefixes[-1]])
    return f"{listed} ({len(stack.blocks)})"


def expand_blocks(model: nn.Module, prefixes: Sequence[str], key: str = KEY) -> list[str]:
    """Return the prefixes with `path.*` replaced by every child of `path` that holds parameters.

    `key` is where the config lists them, for messages.

    Raises:
        ConfigError: a prefix names no module, or one without parameters, or two overlap.
    """
    return [block for expanded in _expanded(model, prefixes, key) for block in expanded]


def expand_layers(model: nn.Module, blocks: Sequence[Block], key: str = KEY) -> list[Sequence[str]]:
    """Return the prefixes of each layer: a list among `blocks` is one layer, `path.*` one for each child.

    Raises:
        ConfigError: as of `expand_blocks`.
    """
    prefixes = [prefix for block in blocks for prefix in ([block] if isinstance(block, str) else block)]
    expanded = iter(_expanded(model, prefixes, key))
    layers: list[Sequence[str]] = []
    for block in blocks:
        if isinstance(block, str):
            layers += [[each] for each in next(expanded)]
        else:
            layers.append([each for _ in block for each in next(expanded)])
    return layers


def _expanded(model: nn.Module, prefixes: Sequence[str], key: str) -> list[list[str]]:
    """Return for each prefix those that it stands for."""
    modules = submodules(model)
    children = children_of(modules)
    expanded = [_expand(prefix, modules, children, key) for prefix in prefixes]
    blocks = [block for each in expanded for block in each]
    known: set[str] = set()
    for block in sorted(blocks, key=len):
        inside = next((prefix for prefix in prefixes_of(block) if prefix in known), None)
        if inside is not None:
            raise ConfigError(f"{key}.blocks: {block!r} lies in {inside!r}, which is listed too. Keep one.")
        known.add(block)
    return expanded


def _expand(
    prefix: str, modules: Mapping[str, nn.Module], children: Mapping[str, Sequence[str]], key: str
) -> list[str]:
    path = prefix.removesuffix(".*")
    if path not in modules:
        raise ConfigError(
            f"{key}.blocks: {prefix!r} names no module of the model.{did_you_mean(path, modules)} "
            f"Its children: {', '.join(children[''])}."
        )
    named = [path] if prefix == path else children.get(path, [])
    blocks = [name for name in named if any(True for _ in modules[name].parameters())]
    if not blocks:
        raise ConfigError(f"{key}.blocks: {prefix!r} holds no block with parameters. Remove it, or correct it.")
    return blocks


def numbers(names: Sequence[str], blocks: Sequence[Block]) -> dict[str, int]:
    """Return for each name the place, from 1, of the block whose prefix it has; 0 for none.

    >>> numbers(["a.w", "ab.w", "c.w"], ["b", ["a", "c"]])
    {'a.w': 2, 'ab.w': 0, 'c.w': 2}
    """
    place = {
        prefix: i
        for i, block in reversed(list(enumerate(blocks, start=1)))
        for prefix in ([block] if isinstance(block, str) else block)
    }
    return {name: next((place[part] for part in prefixes_of(name) if part in place), 0) for name in names}


def prefixes_of(name: str) -> list[str]:
    """Return the names of what holds a name, from the outermost on, and itself.

    >>> prefixes_of("a.b.w")
    ['a', 'a.b', 'a.b.w']
    """
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts) + 1)]


def _check_head(names: Sequence[str], head: Sequence[str]) -> None:
    if not head:
        return
    parts = {part for name in names for part in prefixes_of(name)}
    for prefix in head:
        if prefix not in parts:
            raise ConfigError(
                f"{KEY}.head: {prefix!r} is the prefix of no parameter.{did_you_mean(prefix, sorted(parts))} "
                "Remove it, or correct it."
            )
