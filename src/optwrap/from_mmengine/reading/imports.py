"""The imports of a config: its bases are read, the standard library is imported, all else is a mere name."""

import ast
import sys
from collections.abc import Callable, Mapping
from typing import Any

from optwrap.from_mmengine.reading.nodes import Named, Node

ReadBase = Callable[[str, int], Mapping[str, Any]]
"""From a module and the dots before it to the variables of that base."""


class Imports(ast.NodeTransformer):
    """Takes the imports out of a config's code, and puts what they give into `namespace`.

    Args:
        read_base: reads a base that is imported inside `with read_base():`.
    """

    def __init__(self, read_base: ReadBase) -> None:
        self._read_base = read_base
        self._of_bases = False
        self.namespace: dict[str, Any] = {}
        self.names: set[str] = set()  # of what was imported and is no entry of the config

    def visit_With(self, node: ast.With) -> Any:
        """Read what `with read_base():` imports."""
        call = node.items[0].context_expr
        if not (isinstance(call, ast.Call) and getattr(call.func, "id", None) == "read_base"):
            return self.generic_visit(node)
        self._of_bases = True
        for statement in node.body:
            self.visit(statement)
        self._of_bases = False
        return ast.copy_location(ast.Pass(), node)

    def visit_Import(self, node: ast.Import) -> Any:
        """Keep imports of the standard library."""
        kept = [alias for alias in node.names if _is_standard(alias.name)]
        for alias in node.names:
            root = alias.name.partition(".")[0]
            self.names.add(alias.asname or root)
            if alias not in kept:
                self.namespace[alias.asname or root] = Named(alias.name if alias.asname else root)
        return ast.copy_location(ast.Import(kept) if kept else ast.Pass(), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        """Read a base, keep an import of the standard library, or remember a name."""
        module = node.module or ""
        if self._of_bases or node.level:
            self._take(node, self._read_base(module, node.level))
            return ast.copy_location(ast.Pass(), node)
        self.names.update(alias.asname or alias.name for alias in node.names)
        if _is_standard(module):
            return node
        for alias in node.names:
            self.namespace[alias.asname or alias.name] = Named(f"{module}.{alias.name}")
        return ast.copy_location(ast.Pass(), node)

    def _take(self, node: ast.ImportFrom, base: Mapping[str, Any]) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.namespace.update(Node.of(base))
            elif alias.name in base:
                self.namespace[alias.asname or alias.name] = Node.of(base[alias.name])
            else:
                raise ImportError(f"the base {node.module} has no {alias.name!r}", name=node.module)


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names
