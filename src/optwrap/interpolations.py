"""What a config says by way of the process that composed it, said so that another can read it."""

import re
from enum import Enum
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_RESOLVER = re.compile(r"\$\{\s*[\w.]+\s*:")


def settled(cfg: DictConfig) -> Any:
    """Return the config as plain containers, with values in place of what resolvers such as `hydra` and `now` say.

    What one key takes from another stays: who changes the one changes the other. So does what has no value.

    >>> settled(OmegaConf.create({"width": "${oc.decode:'8'}", "depth": "${width}"}))
    {'width': 8, 'depth': '${width}'}
    """
    return _settled(cfg, OmegaConf.to_container(cfg, resolve=False, enum_to_str=True))


def _settled(node: Any, plain: Any) -> Any:
    """Return `plain`, the container of `node` as written, with those values."""
    if isinstance(plain, dict) and isinstance(node, DictConfig):
        return {key: _item(node, key, item) for key, item in plain.items()}
    if isinstance(plain, list) and isinstance(node, ListConfig):
        return [_item(node, i, item) for i, item in enumerate(plain)]
    return plain


def _item(node: Any, key: Any, plain: Any) -> Any:
    if isinstance(plain, dict | list):
        return _settled(node[key], plain)
    if not (isinstance(plain, str) and _RESOLVER.search(plain)):
        return plain
    try:
        value = node[key]
        if isinstance(value, DictConfig | ListConfig):
            return OmegaConf.to_container(value, resolve=True, enum_to_str=True)
    except (OmegaConfBaseException, ValueError):
        return plain
    return value.name if isinstance(value, Enum) else value
