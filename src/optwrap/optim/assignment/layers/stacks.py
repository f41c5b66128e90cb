"""The stacks of blocks in a model, found by what its modules hold."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from optwrap.optim.assignment.layers.tree import Node

_BLOCK = 2  # weights in a block; a stem or a patch embedding has one
_INSIDE = 0.5  # of the weights of a stage, those in its blocks; the rest is downsampling
_MINOR = 0.2  # of the weights of a stack, those that make another one beside it count
_ROW = 3  # blocks that are mere attributes of a stage, with numbers in their names

_PARALLEL = re.compile(r".*(?:branch|tower|expert|path).*")  # what such a name holds does not run in a row
_ASIDE = re.compile(
    r"(?:.*_)?(?:stem|patch_embed(?:ding)?s?|heads?|necks?|classifier|pooler|aux\w*|downsampl\w*|transition|(?:patch_)?merging)\d*"
)
_LAYER = re.compile(r"(?:.*_)?conv\d*")  # a convolution made of several is no block


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks that run one after another, the stages that they lie in, and what holds these: `name`."""

    name: str
    blocks: list[Node]
    stages: list[Node]

    @property
    def size(self) -> int:
        """The number of weights in its blocks."""
        return sum(block.size for block in self.blocks)

    @property
    def prefixes(self) -> list[str]:
        """The names of its blocks, as short as a config may give them: `layers.*`."""
        names = [block.name for block in self.blocks]
        parents = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
        return [f"{parent}.*" for parent in parents] if self.name in parents or len(parents) > 1 else names


def find_stacks(root: Node) -> list[Stack]:
    """Return the stacks of blocks, in the order of definition.

    A block holds several weights, and stands in a row: among the children of a container, or among attributes
    that have one name and numbers. Where nearly all of what stands there lies in a row of its own, it is a
    stage, and the blocks are those inside. What runs in parallel makes stacks of its own.
    """
    return _stacks(root, 1) or _plain_stacks(root)


def _stacks(node: Node, numbered: int, least: int = _BLOCK) -> list[Stack]:
    """Return the stacks inside a module; a row of attributes counts from `numbered` of them on."""
    found: list[Stack] = []
    rows = [row for row in node.rows() if node.is_container or len(row) >= numbered > 0]
    alone = {child.name for row in rows for child in row}
    for row in rows:
        stack = _in_row(row, node.name if node.is_container else row[0].name, least)
        found += [stack] if stack.blocks else []
    for child in node.children:
        if (
            child.name not in alone
            and not _PARALLEL.fullmatch(child.attribute)
            and not _ASIDE.fullmatch(child.attribute)
        ):
            found += _stacks(child, numbered, least)
    if len(found) < 2:
        return found
    main = max(found, key=lambda stack: stack.size)
    beside = _parent(main.name)
    minor = [s for s in found if s is not main and _parent(s.name) == beside and s.size < _MINOR * main.size]
    return [_joined(main, minor) if stack is main else stack for stack in found if stack not in minor]


def _joined(main: Stack, minor: Sequence[Stack]) -> Stack:
    blocks = [block for stack in (main, *minor) for block in stack.blocks]
    stages = [stage for stack in (main, *minor) for stage in stack.stages]
    return Stack(main.name, sorted(blocks, key=_order), sorted(stages, key=_order))


def _in_row(row: Sequence[Node], name: str, least: int) -> Stack:
    kinds: dict[type, list[Node]] = {}
    row = [node for node in row if not _ASIDE.fullmatch(node.attribute)]
    for node in row:
        kinds.setdefault(type(node.module), []).append(node)
    inner = {kind: _inside(nodes, least) for kind, nodes in kinds.items()}
    blocks: list[Node] = []
    stages: list[Node] = []
    for node in row:
        inside = inner[type(node.module)]
        new = (inside[node.name].blocks if node.name in inside else _composite(node)) if inside else []
        if not new and node.weights >= least and not _LAYER.fullmatch(node.attribute):
            new = [node]
        blocks += new
        stages += [node] if new else []
    if len(stages) == 1:  # it holds all there is
        only = inner[type(stages[0].module)].get(stages[0].name)
        stages = only.stages if only else stages
    return Stack(name, blocks, stages)


def _inside(nodes: Sequence[Node], least: int) -> dict[str, Stack]:
    """Return the stack inside each of some modules of one class; nothing where they are blocks themselves."""
    rows = [row for node in nodes if not node.is_container for row in node.rows()]
    longest = max((sum(node.weights >= least for node in row) for row in rows), default=0)
    found: dict[str, Stack] = {}
    for node in nodes:
        stacks = _stacks(node, 1 if longest >= _ROW else 0, least)
        if len(stacks) == 1:
            found[node.name] = stacks[0]
    size = sum(node.size for node in nodes if node.name in found)
    inside = sum(stack.size for stack in found.values())
    several = any(len(stack.blocks) > 1 for stack in found.values())
    parts = [stack.blocks for stack in found.values()]
    is_stage = several and inside > _INSIDE * size and not _are_alike(nodes, parts)
    return found if is_stage else {}


def _are_alike(nodes: Sequence[Node], inner: Sequence[Sequence[Node]]) -> bool:
    """Whether modules are equal and made of different parts, as layers of attention and feed-forward are."""
    parts = inner[0]
    one_shape = len({node.shape for node in nodes}) == 1 < len(nodes)
    if one_shape and len({part.shape for part in parts}) > 1:
        return True
    kinds = {tuple(type(part.module) for part in parts) for parts in inner}
    different = len({type(part.module) for part in parts})
    return len(kinds) == 1 and different > 1 and (len(inner) > 1 or different == len(parts))


def _composite(stage: Node) -> list[Node]:
    """Return the children of a container that are made of several modules and hold weights."""
    return [child for child in stage.children if child.children and child.size] if stage.is_container else []


def _plain_stacks(root: Node) -> list[Stack]:
    """Return the rows of modules with one weight each; of mere layers, the first is the stem."""
    found: list[Stack] = []
    for stack in _stacks(root, 1, least=1):
        if all(block.children for block in stack.blocks):
            found.append(stack)
        elif len(stack.blocks) >= _ROW and stack.name != root.name:
            found.append(Stack(stack.name, stack.blocks[1:], stack.stages[1:]))
    return found


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _order(node: Node) -> int:
    return node.order


_ORDER = ("backbone", "encoder", "decoder")  # each uses what the one before it gives


def one_chain(stacks: Sequence[Stack]) -> list[Stack]:
    """Return the stacks in the order in which they run; nothing where their names do not tell.

    >>> [stack.name for stack in one_chain([Stack("decoder.layers", [], []), Stack("encoder.layers", [], [])])]
    ['encoder.layers', 'decoder.layers']
    >>> one_chain([Stack("text.encoder", [], []), Stack("vision.encoder", [], [])])
    []
    """
    if len(stacks) < 2:
        return list(stacks)
    paths = [stack.name.split(".") for stack in stacks]
    shared = next((i for i, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1), 0)
    parts = [path[shared] if shared < len(path) else "" for path in paths]
    if len(set(parts)) < len(parts) or not set(parts) <= set(_ORDER):
        return []
    return [stack for _, stack in sorted(zip(map(_ORDER.index, parts), stacks, strict=True), key=_first)]


def _first(pair: tuple[int, Stack]) -> int:
    return pair[0]
