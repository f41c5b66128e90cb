"""Hyperparameters of a param group as numbers."""

from collections.abc import Mapping
from typing import Any

import torch


def lr_of(group: Mapping[str, Any]) -> float:
    """Return the learning rate.

    >>> lr_of({"lr": torch.tensor(0.5)})
    0.5
    """
    return _number(group["lr"])


def momentum_of(group: Mapping[str, Any]) -> float:
    """Return the momentum: Adam's is beta1; 0 where there is none.

    >>> momentum_of({"betas": (0.9, 0.99)}), momentum_of({})
    (0.9, 0)
    """
    return _number(group["momentum"] if "momentum" in group else group.get("betas", (0,))[0])


def _number(value: Any) -> float:
    return value.item() if isinstance(value, torch.Tensor) else value
