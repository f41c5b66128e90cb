"""The blocks of a model, such as a transformer's layers, and which of them each parameter belongs to."""

from collections.abc import Mapping, Sequence

from torch import nn

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.assignment.params import submodules
from optwrap.optim.assignment.paramwise import KEY


def layer_ids(names: Sequence[str], blocks: Sequence[str], head: Sequence[str] = ()) -> dict[str, int]:
    """Number parameters by layer: 0 before the first block, i in block i, then n + 1; pure, in model order.

    What lies between two blocks (downsampling) belongs to the block that follows. `head` names prefixes that
    are n + 1 wherever they stand.

    Raises:
        ConfigError: a prefix of the head is that of no parameter.

    >>> layer_ids(["embed", "layers.0.w", "layers.1.w", "norm", "head.w"], ["layers.0", "layers.1"])
    {'embed': 0, 'layers.0.w': 1, 'layers.1.w': 2, 'norm': 3, 'head.w': 3}
    """
    _check_head(names, head)
    block_of = {name: _block_of(name, blocks) for name in names}
    ids: dict[str, int] = {}
    last = len(blocks) + 1
    following = last
    for name in reversed(names):  # what follows decides, so go backwards
        if _has_prefix(name, head):
            ids[name] = last
            continue
        following = block_of[name] or following
        ids[name] = following
    first = next((i for i, name in enumerate(names) if block_of[name]), 0)
    stem = {name: 0 for name in names[:first] if ids[name] != last}
    return {name: stem.get(name, ids[name]) for name in names}


def find_blocks(model: nn.Module) -> list[str]:
    """Return the prefixes of the model's blocks: the children of its outermost containers of equal modules.

    It finds those of torchvision's ViT, Swin, ConvNeXt, ResNet and EfficientNet, and of most transformers.

    Raises:
        ConfigError: there are none, or containers under several parents (an encoder's and a decoder's, the
            branches inside a layer), whose order only the user knows; the message shows the names it saw.
    """
    modules = submodules(model)
    children = children_of(modules)
    containers = _containers("", modules, children)
    if not containers:
        raise ConfigError(
            f"{KEY}.decay_by=block: no blocks found in {type(modules['']).__name__}, whose children are "
            f"{', '.join(children.get('', [])) or 'none'}. List their prefixes in order: {KEY}.blocks="
            "[layer1,layer2], or ['encoder.layer.*'] for every child of a container."
        )
    if len({container.rpartition(".")[0] for container in containers}) > 1:
        seen = ", ".join(containers[:4]) + (", ..." if len(containers) > 4 else "")
        stars = ",".join(f"'{container}.*'" for container in containers[:2])
        raise ConfigError(
            f"{KEY}.decay_by=block: the blocks of {type(modules['']).__name__} are not those of one stack; there "
            f"are {seen}. List their prefixes in order: {KEY}.blocks=[{stars}], or one for each whole layer."
        )
    return [name for container in containers for name in children[container]]


def expand_blocks(model: nn.Module, prefixes: Sequence[str], key: str = KEY) -> list[str]:
    """Return the prefixes with `path.*` replaced by every child of `path` that holds parameters.

    `key` is where the config lists them, for messages.

    Raises:
        ConfigError: a prefix names no module, or one without parameters, or two overlap.
    """
    modules = submodules(model)
    blocks = [block for prefix in prefixes for block in _expand(prefix, modules, key)]
    for i, block in enumerate(blocks):
        inside = next((other for other in blocks[:i] + blocks[i + 1 :] if _has_prefix(block, (other,))), None)
        if inside is not None:
            raise ConfigError(f"{key}.blocks: {block!r} lies in {inside!r}, which is listed too. Keep one.")
    return blocks


def _expand(prefix: str, modules: Mapping[str, nn.Module], key: str) -> list[str]:
    path = prefix.removesuffix(".*")
    children = children_of(modules)
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


def children_of(modules: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """Return the full names of each module's children."""
    children: dict[str, list[str]] = {}
    for name in modules:
        if name:
            children.setdefault(name.rpartition(".")[0], []).append(name)
    return children


def _containers(path: str, modules: Mapping[str, nn.Module], children: Mapping[str, Sequence[str]]) -> list[str]:
    if _is_container_of_blocks(path, modules, children):
        return [path]
    return [found for child in children.get(path, []) for found in _containers(child, modules, children)]


def _is_container_of_blocks(
    path: str, modules: Mapping[str, nn.Module], children: Mapping[str, Sequence[str]]
) -> bool:
    own = children.get(path, [])
    composite = all(children.get(child) for child in own)
    one_kind = len({type(modules[child]) for child in own}) == 1
    return isinstance(modules[path], nn.Sequential | nn.ModuleList) and one_kind and composite


def _check_head(names: Sequence[str], head: Sequence[str]) -> None:
    for prefix in head:
        if not any(_has_prefix(name, (prefix,)) for name in names):
            parts = [name.rsplit(".", i)[0] for name in names for i in range(name.count(".") + 1)]
            raise ConfigError(
                f"{KEY}.head: {prefix!r} is the prefix of no parameter.{did_you_mean(prefix, parts)} Remove it, "
                "or correct it."
            )


def _block_of(name: str, blocks: Sequence[str]) -> int:
    return next((i for i, block in enumerate(blocks, start=1) if _has_prefix(name, (block,))), 0)


def _has_prefix(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
