"""Hyperparameters of a param group as numbers."""

from collections.abc import Mapping, Sequence
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


def base_group(groups: Sequence[Mapping[str, Any]], base_lr: Any) -> int:
    """Return the index of the param group that speaks for all: the one at the base lr, or else at the highest.

    >>> base_group([{"lr": 0.0}, {"lr": 0.1}, {"lr": 0.2}], 0.1)
    1
    """
    starts = [float(lr) if (lr := group.get("initial_lr", group["lr"])) is not None else 0.0 for group in groups]
    return starts.index(base_lr if base_lr in starts else max(starts))


def _number(value: Any) -> float:
    return value.item() if isinstance(value, torch.Tensor) else value
