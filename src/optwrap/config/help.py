"""The text of `--help`: the groups with their options, and the top-level keys, read from where they are made."""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from optwrap.config import train_schema
from optwrap.config.sources import EXPERIMENT, experiment_names, experiments_folder
from optwrap.hydra_versions import register_resolver

_WIDTH = 100


def register_resolvers(conf: Path) -> None:
    """Offer `${optwrap.groups:}` and `${optwrap.keys:}` to the help template; `conf` holds the groups."""

    def groups(*, _root_: DictConfig) -> str:
        choices = dict(OmegaConf.select(_root_, "hydra.runtime.choices", default={}))
        typed = OmegaConf.select(_root_, "hydra.overrides.task", default=[])
        choices.update(override.split("=", 1) for override in typed if "=" in override)
        return _for_template(group_lines(conf, choices))

    def keys(*, _root_: DictConfig) -> str:
        return _for_template(key_lines(_root_))

    register_resolver("optwrap.groups", groups)
    register_resolver("optwrap.keys", keys)


def group_lines(conf: Path, choices: Mapping[str, Any]) -> Iterator[str]:
    """Yield a heading a group, with its choice, and a line an option: its file's first comment."""
    for group, files in _groups(conf):
        choice = choices.get(group)
        yield f"{group}  (now: {choice})" if choice else group
        column = max(map(len, files)) + 2
        for option, path in files.items():
            yield from _columns(option, first_comment(path), column)


def _groups(conf: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    """Yield the groups of `conf`, then the experiments beside it, with the file of each option."""
    for folder in sorted(path for path in conf.iterdir() if path.is_dir() and path.name != "hydra"):
        if files := sorted(folder.glob("*.yaml")):
            yield folder.name, {path.stem: path for path in files}
    if names := experiment_names(conf):
        yield EXPERIMENT, {name: experiments_folder(conf) / f"{name}.yaml" for name in names}


def first_comment(path: Path) -> str:
    """Return the first comment of a YAML file (`# @package` is none), or an empty string."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            return line.lstrip("# ")
    return ""


def key_lines(cfg: DictConfig) -> Iterator[str]:
    """Yield a line a top-level key that is a plain value: its value in `cfg`, and what it is for."""
    described = field_docs(train_schema.TrainConfig)
    values = cfg.items_ex(resolve=False)
    plain = {key: value for key, value in values if not OmegaConf.is_config(value) and value != MISSING}
    shown = {key: f"{key}={_shown(value)}" for key, value in plain.items() if key in described}
    column = max(map(len, shown.values()), default=0) + 2
    for key, text in shown.items():
        yield from _columns(text, described[str(key)], column)


def field_docs(cls: type) -> dict[str, str]:
    """Return the string under each field of a dataclass, which Python itself does not keep.

    >>> field_docs(train_schema.TrainConfig)["batch_size"]
    'Samples in a micro-batch, over all processes.'
    """
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    docs: dict[str, str] = {}
    for statement, below in itertools.pairwise(body):
        is_field = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if is_field and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docs[statement.target.id] = str(below.value.value)
    return docs


def _columns(left: str, right: str, column: int) -> Iterator[str]:
    indent = " " * (column + 2)
    text = textwrap.wrap(right, _WIDTH - len(indent)) or [""]
    yield f"  {left:<{column}}{text[0]}".rstrip()
    yield from (indent + line for line in text[1:])


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _for_template(lines: Iterator[str]) -> str:
    """Join lines for Hydra's help, which is a `string.Template`."""
    return "\n".join(lines).replace("$", "$$")
