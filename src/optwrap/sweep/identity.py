"""What makes two jobs the same: a hash of the composed config, which also names the job's folder."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from optwrap.hydra_versions import register_resolver

DIGITS = 12  # hexadecimal: among a million jobs two share a name with a chance of 0.2 %

_ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:\s*([^,{}$]*[^,{}$\s])")


def job_id(cfg: DictConfig, without_effect: Iterable[str] = ()) -> str:
    """Return the identity of a job: a hash of its config, less `hydra` and the keys `without_effect`.

    Interpolations count as they are written, not by their value, so that a time in one makes no other job; the
    environment variables that they name count by their values. The order of keys does not count.

    >>> first = OmegaConf.create({"seed": 1, "optimizer": {"lr": 0.1}, "logger": "csv"})
    >>> second = OmegaConf.create({"optimizer": {"lr": 0.1}, "seed": 1, "logger": "none"})
    >>> job_id(first, ["logger"]) == job_id(second, ["logger"])
    True
    >>> job_id(first) == job_id(second)
    False
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    for key in ("hydra", *without_effect):
        _drop(plain, key.split("."))
    text = json.dumps(_with_text_keys(plain), sort_keys=True, default=str)
    if read := {name: os.environ.get(name) for name in _ENVIRONMENT.findall(text)}:
        text += json.dumps(read, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _drop(node: Any, path: list[str]) -> None:
    for name in path[:-1]:
        node = node.get(name) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(path[-1], None)


def _with_text_keys(node: Any) -> Any:
    """Return the container with every key a string: keys of several types cannot be sorted."""
    if isinstance(node, dict):
        return {str(key): _with_text_keys(value) for key, value in node.items()}
    return [_with_text_keys(value) for value in node] if isinstance(node, list) else node


def _resolve_job_id(*without_effect: str, _root_: DictConfig) -> str:
    return job_id(_root_, without_effect)


# At import, since workers of a launcher resolve the folder's name before they call anything of ours.
register_resolver("optwrap.job_id", _resolve_job_id)
