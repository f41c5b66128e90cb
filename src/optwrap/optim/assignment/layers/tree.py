"""A model's modules as a tree, each with the weights inside it."""

import re
from dataclasses import dataclass, field

from torch import nn
from torch.nn.parameter import is_lazy

from optwrap.optim.assignment.params import submodules

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NUMBERED = re.compile(r"(.*?)_?(\d+)[a-z]?")  # `layer1`, `block_2`, `mixed_5b`


@dataclass(slots=True, eq=False)
class Node:
    """A module: its plain name, its children in the order of definition, and what weights it holds inside.

    `weights` counts its parameters with two dimensions or more, and `size` their elements. Two modules of one
    `shape` hold the same parameters. `order` counts the modules as they are defined.
    """

    name: str
    module: nn.Module
    children: list["Node"] = field(default_factory=list)
    weights: int = 0
    size: int = 0
    shape: int = 0
    order: int = 0

    @property
    def attribute(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]

    @property
    def is_container(self) -> bool:
        """Whether it is one of torch's containers: its children are all that it is."""
        return isinstance(self.module, _CONTAINERS)

    def rows(self) -> list[list["Node"]]:
        """Return the children that stand in a row: all of a container, or those with one name and numbers."""
        if self.is_container:
            return [self.children]
        numbered = {child.name: _NUMBERED.fullmatch(child.attribute) for child in self.children}
        rows: dict[str, list[Node]] = {match[1]: [] for match in numbered.values() if match}
        for child in self.children:
            match = numbered[child.name]
            stem = match[1] if match else child.attribute  # `repeat`, `repeat_1`, `repeat_2`
            if stem in rows:
                rows[stem].append(child)
        return list(rows.values())


def tree_of(model: nn.Module) -> Node:
    """Return the root of the tree; a module that has several names stands at its first one."""
    nodes: dict[str, Node] = {}
    known: set[int] = set()
    for name, module in submodules(model).items():
        parent = nodes.get(name.rpartition(".")[0])
        if id(module) in known or (name and parent is None):
            continue
        known.add(id(module))
        nodes[name] = Node(name, module, order=len(nodes))
        if name and parent is not None:
            parent.children.append(nodes[name])
    counted: set[int] = set()
    for name, node in reversed(nodes.items()):  # children before their parents
        params = {key: param for key, param in node.module._parameters.items() if param is not None}
        for key, param in params.items():
            if _is_matrix(key, param) and id(param) not in counted:
                counted.add(id(param))
                node.weights += 1
                node.size += 0 if is_lazy(param) else param.numel()
        node.shape = hash(
            (
                *(() if is_lazy(param) else param.shape for param in params.values()),
                *(child.shape for child in node.children),
            )
        )
        if name:
            parent = nodes[name.rpartition(".")[0]]
            parent.weights += node.weights
            parent.size += node.size
    return nodes[""]


def _is_matrix(key: str, param: nn.Parameter) -> bool:
    """Whether it has several dimensions, none of which are there for broadcasting alone, as those of a gain."""
    if is_lazy(param):
        return True
    return param.ndim > 1 and (key == "weight" or param.numel() > max(param.shape))
