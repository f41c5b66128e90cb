"""What can be imported: whether a text is the import path of code that is there, and packages that are extras."""

import importlib
import importlib.util
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from optwrap.errors import ConfigError

_DATA = frozenset({"csv", "tsv", "txt", "json", "yaml", "yml", "npy", "npz", "pt", "pth", "parquet", "png", "h5"})


def is_import_path(text: str) -> bool:
    """Whether `text` names something in a module that could be imported.

    A name such as `train.csv`, beside a module `train`, is that of a file.

    >>> is_import_path("json.loads"), is_import_path("backbone.layer0"), is_import_path("test.csv")
    (True, False, False)
    """
    names = text.split(".")
    if len(names) < 2 or not all(name.isidentifier() for name in names):
        return False
    spec = _spec_of(names[0])
    for name in names[1:]:
        if spec is None:
            return False
        if spec.origin is not None or spec.submodule_search_locations is None:
            return not (len(names) == 2 and name in _DATA)
        # A folder without __init__.py, such as that of all runs: code may lie deep in it.
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec is not None and spec.origin is not None


def import_extra(package: str, key: str, extra: str = "") -> Any:
    """Return a package that an `extra`, if of another name, installs; `key` is what of the config asks for it.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{key} needs the package {package}: pip install -e '.[{extra or package}]'.") from error


def _spec_of(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module that is loaded but has no spec, such as __main__
        return ModuleSpec(name, None, origin="loaded")
