"""The arguments of torch's optimizers and schedulers, read from their source without importing torch.

Importing torch takes seconds, which tab completion and `--help` do not have. Parsing the files of the
installed `torch.optim` takes a tenth of one, one file a hundredth, and follows whatever version is installed.
"""

import ast
import importlib.util
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from optwrap.errors import ConfigError

_PRIMITIVES: dict[str, Any] = {"float": float, "int": int, "bool": bool, "str": str}
_SEQUENCES = {"tuple", "list", "Tuple", "List", "Sequence", "Iterable"}


@dataclass(frozen=True)
class Argument:
    """One constructor argument; `default` is OmegaConf's MISSING where torch requires the argument."""

    name: str
    type: Any
    default: Any


@dataclass(frozen=True)
class Signature:
    """A class and its constructor's arguments, less the parameters or the optimizer that code hands over."""

    name: str
    target: str
    arguments: tuple[Argument, ...]


class Signatures(Mapping[str, Signature]):
    """Signatures by the names of their classes, each read when it is asked for.

    `files` are those of the classes; one whose constructor cannot be found in its file is left out.
    """

    def __init__(self, files: Mapping[str, Path], package: str) -> None:
        self._files, self._package = files, package
        self._modules: dict[Path, ast.Module] = {}
        self._read: dict[str, Signature | None] = {}

    def __getitem__(self, name: str) -> Signature:
        if name not in self._read:
            self._read[name] = self._signature(name, self._files[name])
        found = self._read[name]
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._files if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _signature(self, name: str, path: Path) -> Signature | None:
        if path not in self._modules:
            if not path.is_file():
                return None
            self._modules[path] = _parse(path)
        module = self._modules[path]
        init = _constructor(module, name)
        if init is None:
            return None
        return Signature(name, f"{self._package}.{name}", tuple(_arguments(init, _constants(module))))


def optimizer_signatures(folder: Path | None = None) -> Signatures:
    """Return the signature of every optimizer that `torch.optim` exports, by class name.

    `folder` is the source folder of a `torch.optim`, by default that of the installed torch.

    >>> [argument.name for argument in optimizer_signatures()["SparseAdam"].arguments]
    ['lr', 'betas', 'eps', 'maximize']
    """
    folder = folder or torch_optim_folder()
    package = _parse(folder / "__init__.py")
    modules = {name: folder / f"{module}.py" for name, module in _imported_names(package)}
    names = [name for name in _exported(package) if name in modules and name != "Optimizer"]
    return Signatures({name: modules[name] for name in names}, "torch.optim")


def scheduler_signatures(folder: Path | None = None) -> Signatures:
    """Return the signature of every scheduler that `torch.optim.lr_scheduler` exports, by class name.

    >>> [(a.name, a.type, a.default) for a in scheduler_signatures()["StepLR"].arguments][:2]
    [('step_size', <class 'int'>, '???'), ('gamma', <class 'float'>, 0.1)]
    """
    path = (folder or torch_optim_folder()) / "lr_scheduler.py"
    names = [name for name in _exported(_parse(path)) if name != "LRScheduler"]
    return Signatures(dict.fromkeys(names, path), "torch.optim.lr_scheduler")


def torch_optim_folder() -> Path:
    """Return the source folder of the installed `torch.optim`; finding it does not import torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("torch is not installed: pip install torch")
    return Path(next(iter(spec.submodule_search_locations))) / "optim"


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imported_names(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, its module inside torch.optim) for every `from torch.optim.x import name`."""
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, node.module.rpartition(".")[2]


def _exported(module: ast.Module) -> list[str]:
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return []


def _constructor(module: ast.Module, name: str) -> ast.FunctionDef | None:
    """Return the `__init__` of class `name`, its own or one inherited inside the module."""
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        return None
    for node in classes[name].body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return node
    bases = [base.id for base in classes[name].bases if isinstance(base, ast.Name) and base.id != name]
    return next((init for base in bases if (init := _constructor(module, base))), None)


def _arguments(init: ast.FunctionDef, constants: dict[str, Any]) -> Iterator[Argument]:
    positional = [*init.args.posonlyargs, *init.args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(init.args.defaults))
    pairs = list(zip(positional, [*defaults, *init.args.defaults], strict=True))[1:]
    pairs += zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
    names = [arg.arg for arg, _ in pairs]
    # Optimizers take the parameters first; one scheduler does not take its optimizer first.
    handed_over = "optimizer" if "optimizer" in names else names[0]
    for arg, default in pairs:
        if arg.arg == handed_over:
            continue
        hint = _readable_type(arg.annotation)
        try:
            value = MISSING if default is None else _fit(_evaluate(default, constants), hint)
        except Exception:  # an unreadable default: leave the argument to torch
            continue
        yield Argument(arg.arg, hint, value)


def _constants(module: ast.Module) -> dict[str, Any]:
    """Return the module's constants, which defaults may name (Muon's do)."""
    constants: dict[str, Any] = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                constants[node.targets[0].id] = _evaluate(node.value, constants)
            except Exception:  # not a constant
                continue
    return constants


def _evaluate(node: ast.expr, constants: dict[str, Any]) -> Any:
    """Evaluate an expression of literals and constants, such as `1.0 / 3`; calls have nothing to call."""
    return eval(compile(ast.Expression(node), "<default>", "eval"), {"__builtins__": {}}, dict(constants))


def _fit(value: Any, hint: Any) -> Any:
    """Give a default the form of its type: `weight_decay: float = 0` is 0.0, a tuple is a list."""
    if typing.get_origin(hint) is list and isinstance(value, tuple):
        item = typing.get_args(hint)[0]
        return [_fit(entry, item) for entry in value]
    is_float = hint is float or hint == (float | None)
    return float(value) if is_float and type(value) is int else value


def _readable_type(annotation: ast.expr | None) -> Any:
    """Return a type that OmegaConf can check, `Any` for what it cannot; a Tensor option is dropped."""
    try:
        return _type(annotation)
    except Exception:  # an annotation of a form not thought of must not stop a run
        return Any


def _type(node: ast.expr | None) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _type(ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.Name):
        return _PRIMITIVES.get(node.id, Any)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union(_options(node))
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        return Any
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if node.value.id == "Optional":
        return _union([*inner, ast.Constant(None)])
    if node.value.id == "Union":
        return _union(inner)
    if node.value.id == "Literal":
        return str if all(isinstance(ast.literal_eval(option), str) for option in inner) else Any
    return _list_of(inner) if node.value.id in _SEQUENCES else Any


def _options(node: ast.expr) -> list[ast.expr]:
    """Flatten `a | b | c`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_options(node.left), *_options(node.right)]
    return [node]


def _union(options: list[ast.expr]) -> Any:
    kept = [option for option in options if ast.unparse(option).rpartition(".")[2] not in ("Tensor", "None")]
    types = {_type(option) for option in kept}
    if types == {int, float}:
        types = {float}
    if len(types) != 1 or Any in types:
        return Any
    nullable = any(ast.unparse(option) == "None" for option in options)
    return types.pop() | None if nullable else types.pop()


def _list_of(items: list[ast.expr]) -> Any:
    types = {_type(item) for item in items if ast.unparse(item) != "..."}
    if types == {float, float | None}:
        return list[float | None]
    return list[types.pop()] if len(types) == 1 else list[Any]  # type: ignore[misc]
