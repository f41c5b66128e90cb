"""What Hydra 1.3 and Hydra 1.4 want said in different words; said here, for both.

A fork goes when 1.3 goes; nothing else asks which Hydra there is.
"""

import functools
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import hydra.utils
import omegaconf
from omegaconf import OmegaConf

_declare: Any = getattr(hydra.utils, "execution_whitelist", None)  # since 1.4
VERSION_BASE: dict[str, str] = {} if _declare else {"version_base": "1.3"}
"""The argument that 1.4 warns of, and without which 1.3 takes the defaults of 1.1."""
# Their functions do away with files and processes. What runs any code at all Hydra refuses by itself.
_REFUSED = frozenset({"os", "posix", "nt", "shutil", "_sitebuiltins"})
_REFUSAL = re.compile(
    r"((?:Target|Reference) '((\w+)[^']*)'(?: \(resolved from '[^']+'\))?) "
    r"(is (?:block|black)listed|is not in the Hydra|cannot|operates on)"
)


def register_resolver(name: str, resolver: Callable[..., Any]) -> None:
    """Offer `${name:...}` to configs, in place of an earlier one of that name."""
    # OmegaConf 2.3 has a function of the new name too, which does something else.
    is_old = omegaconf.__version__.startswith("2.3.")
    register: Any = OmegaConf.register_new_resolver if is_old else OmegaConf.register_resolver
    register(name, resolver, replace=True)


def declared_targets(keyword: str = "_execution_whitelist_", targets: Iterable[str] = ()) -> dict[str, Any]:
    """Return the argument that declares what a config may name, empty where Hydra has no such argument.

    A `_target_` is any import path, so that is every package there is and those of `targets`, less the modules
    that 1.3 refuses. What a config from elsewhere may name is checked by `config.trusted`.
    """
    if _declare is None:
        return {}
    here = _packages(tuple(sys.path))
    return {keyword: _whitelist(here | {target.partition(".")[0] for target in targets})}


def refusal(message: str) -> str | None:
    """Return in a line what refuses a target, in the words of neither version; None for another message.

    >>> refusal("Target 'os.kill' (resolved from 'x.kill') is blocklisted and cannot be instantiated ...")
    "Target 'os.kill' (resolved from 'x.kill') is blocklisted by Hydra"
    >>> refusal("Target 'nowhere.Task' is not in the Hydra execution whitelist.\\nPass ...")
    "Error locating target 'nowhere.Task': No module named 'nowhere'"
    """
    found = _REFUSAL.match(message)
    if found is None:
        return None
    what, target, package, how = found.groups()
    if how.startswith("is not in") and package not in _packages(tuple(sys.path)):
        return f"Error locating target '{target}': No module named '{package}'"
    return f"{what} is blocklisted by Hydra"


@functools.cache
def _packages(path: tuple[str, ...]) -> frozenset[str]:
    """Return the names of the packages in the folders of `path`, in Python itself or loaded."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    found = {module.name for module in pkgutil.iter_modules(path)}
    return frozenset(sys.stdlib_module_names | found | loaded)


@functools.cache
def _whitelist(packages: frozenset[str]) -> Any:
    patterns = [*(f"{package}.*" for package in sorted(packages - _REFUSED) if package), "os.path.*"]
    return _declare(patterns, reset=True)
