"""What a hook is: any object with methods out of a short list."""

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from optwrap.errors import ConfigError, did_you_mean

METHODS = {
    "start": "(run): before the first micro-batch of this process, after a checkpoint was loaded",
    "before_update": "(run): before the first micro-batch of an update",
    "after_update": "(run): after an optimizer step that was not skipped",
    "before_evaluation": "(run): before an evaluation on val",
    "after_evaluation": "(run, metrics): after it",
    "end": "(run): after the evaluation on test",
    "state_dict": "(): what a checkpoint shall hold of the hook",
    "load_state_dict": "(state): go on from it",
}
"""Method -> its arguments, and when it is called; each may be left out."""

_ARGUMENTS = {"state_dict": 0, "load_state_dict": 1, "after_evaluation": 2}  # the others take one


def switched_on(nodes: Any) -> dict[str, Any]:
    """Return the hooks of a config less those that are null; of a config that has none, nothing.

    >>> switched_on({"early_stopping": None, "mine": {"_target_": "my.Hook"}})
    {'mine': {'_target_': 'my.Hook'}}
    """
    return {name: node for name, node in nodes.items() if node is not None} if isinstance(nodes, Mapping) else {}


def check_hook(hook: Any, key: str) -> None:
    """Check that `hook`, which stands at `key` of the config, has methods of the list, and no misspelt one.

    Raises:
        ConfigError: it has none, one is called almost like one of the list or takes other arguments, or it saves
            a state and cannot load it.
    """
    kind = type(hook).__name__
    its = [name for name in METHODS if callable(getattr(hook, name, None))]
    for name in _own_methods(hook):
        if _seems_misspelt(name):
            raise ConfigError(f"{key}: nothing calls {kind}.{name}.{did_you_mean(name, METHODS)} {_listed()}")
    if not its:
        raise ConfigError(f"{key}: {kind} has none of the methods of a hook. {_listed()}")
    for name in its:
        if not _takes(getattr(hook, name), _ARGUMENTS.get(name, 1)):
            raise ConfigError(f"{key}: {kind}.{name} takes other arguments than those of {name}{METHODS[name]}.")
    if ("state_dict" in its) != ("load_state_dict" in its):
        raise ConfigError(f"{key}: {kind} has only one of state_dict and load_state_dict.")


def _own_methods(hook: Any) -> Iterator[str]:
    for name in dir(type(hook)):
        if not name.startswith("_") and inspect.isfunction(inspect.getattr_static(type(hook), name)):
            yield name


def _seems_misspelt(name: str) -> bool:
    looks_so = name.startswith(("on_", "before_", "after_")) or difflib.get_close_matches(name, METHODS, 1, 0.85)
    return name not in METHODS and bool(looks_so)


def _takes(method: Any, arguments: int) -> bool:
    try:
        inspect.signature(method).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # it has no signature to look at
        pass
    return True


def _listed() -> str:
    return "A hook's methods:\n  " + "\n  ".join(f"{name}{meaning}" for name, meaning in METHODS.items())
