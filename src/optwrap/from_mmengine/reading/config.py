"""Reading a config, without MMEngine: Python (with `_base_`, or with imported bases), YAML or JSON."""

import ast
import importlib.util
import os
import re
import traceback
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import yaml

from optwrap.errors import ConfigError, first_line
from optwrap.from_mmengine.reading.imports import Imports
from optwrap.from_mmengine.reading.nodes import Node, merged, plain

BASE = "_base_"
_OF_BASE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")
_OF_ENVIRONMENT = re.compile(r"\{\{\s*\$(\w+)\s*:\s*(\S*?)\s*\}\}")


def read_config(path: Path) -> dict[str, Any]:
    """Return a config with its bases, as dicts and lists of bare values; classes are import paths.

    A Python config is code, and is run.

    Raises:
        ConfigError: it or a base is missing, is no config, or cannot be run; the message says where.
    """
    return dict(plain(_read(path, ())))


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Return the variables of a config; `above` are those that it is a base of."""
    path = Path(os.path.normpath(path))
    if path in above:
        raise ConfigError(f"{path}: it is a base of itself, through {', '.join(map(str, above))}.")
    if not path.is_file():
        of = f", a base of {above[-1]}" if above else ""
        raise ConfigError(f"{path}{of}: there is no such file.")
    try:
        text = _with_variables(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it is no text ({error}).") from error
    if path.suffix == ".py":
        return _run(text, path, above)
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigError(f"{path}: a config is a file .py, .yaml or .json.")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: it holds no mapping.")
    base = _bases(content.pop(BASE, []), path, above)
    return merged(content, base, f"{path}: ")


def _with_variables(text: str, path: Path) -> str:
    """Return the text with the variables of its file and of the environment filled in."""
    own = {
        **{"fileDirname": str(path.parent), "fileBasename": path.name},
        **{"fileBasenameNoExtension": path.stem, "fileExtname": path.suffix},
    }
    for name, value in own.items():
        text = re.sub(r"\{\{\s*" + name + r"\s*\}\}", lambda _, value=value: value.replace("\\", "/"), text)  # type: ignore[misc]

    def of_environment(match: re.Match[str]) -> str:
        value = os.environ.get(match[1], match[2])
        if not value:
            raise ConfigError(f"{path}: it asks for the environment variable {match[1]}, which is not set.")
        return value

    return _OF_ENVIRONMENT.sub(of_environment, text)


def _run(text: str, path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Return the variables of a Python config, merged into its bases."""
    try:
        tree = ast.parse(_OF_BASE.sub(r"_base_.\1", text), str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 0
        raise ConfigError(f"{path}, line {line}: {getattr(error, 'msg', error)}.") from error
    base = _bases(_take_base(tree, path), path, above)
    node = Node.of(base)  # a config may change what it takes from its bases, and take parts of them away
    try:
        imports = Imports(partial(_imported_base, path, above))
        code = ast.fix_missing_locations(imports.visit(tree))
        namespace = {"__file__": str(path), "__name__": path.stem, BASE: node, **imports.namespace}
        exec(compile(code, str(path), "exec"), namespace)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_where_it_failed(error, path)) from error
    own = {name: value for name, value in namespace.items() if _is_entry(name, value, imports.names)}
    return merged(own, node, f"{path}: ")


def _take_base(tree: ast.Module, path: Path) -> Any:
    """Take `_base_ = ...` out of the code, and return its value."""
    found: Any = []
    for node in list(tree.body):
        if isinstance(node, ast.Assign) and any(getattr(target, "id", None) == BASE for target in node.targets):
            tree.body.remove(node)
            try:
                found = ast.literal_eval(ast.Expression(node.value))
            except ValueError as error:
                raise ConfigError(f"{path}, line {node.lineno}: _base_ is a text, or a list of texts.") from error
    return found


def _bases(names: Any, path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Return the variables of all bases together."""
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, Iterable) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: _base_ is a text, or a list of texts.")
    whole: dict[str, Any] = {}
    for name in names:
        content = _read(_path_of(name, path), (*above, path))
        if twice := sorted(set(content) & set(whole)):
            raise ConfigError(f"{path}: {twice[0]} stands in two of its bases, {', '.join(names)}: keep one.")
        whole |= content
    return whole


def _path_of(name: str, path: Path) -> Path:
    """Return the file of a base; `package::file` lies in an installed package."""
    package, separator, rest = name.partition("::")
    if not separator:
        return path.parent / name
    return _package_folder(package, path) / ".mim" / "configs" / rest


def _package_folder(package: str, path: Path) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ConfigError(f"{path}: a base of it lies in {package}, which is not installed.")
    return Path(found.origin).parent


def _imported_base(path: Path, above: tuple[Path, ...], module: str, level: int) -> Mapping[str, Any]:
    """Return the variables of a base that is imported: relative to `path`, or from an installed package."""
    parts = module.split(".")
    if level:
        folder = Path(path.parent, *[".."] * (level - 1))
    else:
        folder, parts = _package_folder(parts[0], path), parts[1:]
    return _read(folder.joinpath(*parts).with_suffix(".py"), (*above, path))


def _is_entry(name: str, value: Any, imported: set[str]) -> bool:
    return not (
        name.startswith("__") or name == BASE or name in imported or isinstance(value, FunctionType | ModuleType)
    )


def _where_it_failed(error: BaseException, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = f", line {lines[-1]}" if lines else ""
    return f"{path}{line}: {type(error).__name__}: {first_line(error)}."
