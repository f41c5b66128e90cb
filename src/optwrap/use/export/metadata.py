"""What an exported file says of itself: where it comes from, and what has to be done to data before it."""

import json
from collections.abc import Mapping
from typing import Any

import torch

from optwrap import __version__
from optwrap.provenance.record import last_start
from optwrap.use.samples import classes_of, preprocessing_of
from optwrap.use.trained import Trained

_NUMBERS = ("channels", "image_size", "mean", "std")


def metadata_of(it: Trained) -> dict[str, str]:
    """Return the facts as texts, those that are none as JSON: the only values that all formats keep.

    `preprocessing` has the numbers that the data was made with, also where they were computed from it.
    """
    start = last_start(it.folder)
    facts = {name: value for name, value in it.facts().items() if name != "command"}
    facts |= {
        "commit": start.get("commit"),
        "changed_since_commit": start.get("dirty"),
        "model": it.cfg.model.get("_target_"),
        "preprocessing": _preprocessing(it),
        "classes": classes_of(it.data.splits),
        "num_classes": it.cfg.data.get("num_classes") or it.cfg.task.get("num_classes"),
        "torch": torch.__version__,
        "optwrap": __version__,
    }
    return as_texts(facts)


def as_texts(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what is known of the facts as texts.

    >>> as_texts({"run": "norms", "mean": [0.5], "commit": None})
    {'run': 'norms', 'mean': '[0.5]'}
    """
    known = {name: value for name, value in facts.items() if value is not None}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in known.items()}


def _preprocessing(it: Trained) -> dict[str, Any] | None:
    """Return what the data says of it, else what its config does."""
    if said := preprocessing_of(it.data.splits):
        return said
    found = {name: it.cfg.data.get(name) for name in _NUMBERS}
    plain = {
        name: value if isinstance(value, int | float) else list(value) for name, value in found.items() if value
    }
    return plain or None
