"""Optimizers that train other weights than those to evaluate, and switch between them (schedule-free ones)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer

from optwrap.optim.averaging.average import WeightAverage
from optwrap.optim.step.layout import params_of


def switches(optimizer: Any) -> bool:
    """Whether it, or one that it is made of, has methods `train` and `eval`: those of Defazio et al., 2024."""
    return bool(_switching(optimizer))


def train(optimizer: Any) -> None:
    """Let an optimizer that switches weights begin to train."""
    for each in _switching(optimizer):
        each.train()


def _switching(optimizer: Any) -> list[Any]:
    parts = getattr(optimizer, "optimizers", None)
    each_part = list(parts.values()) if isinstance(parts, Mapping) else [optimizer]
    return [
        each
        for each in each_part
        if callable(getattr(each, "train", None)) and callable(getattr(each, "eval", None))
    ]


def recomputes_batch_norm(averaging: WeightAverage | None, optimizer: Any) -> bool:
    """Whether running statistics are to be those of the weights that are evaluated.

    Those of a schedule-free optimizer's, as its authors advise; of averages where the config says so.
    """
    of_average = averaging is not None and averaging.batch_norm == "recompute" and bool(averaging.averages)
    return of_average or switches(optimizer)


@contextmanager
def switched(optimizer: Optimizer) -> Iterator[None]:
    """Let the model have the weights to evaluate inside; afterwards those of training, to the bit.

    What the optimizer itself would compute back differs in the last bits: each evaluation would change training.
    """
    switching = _switching(optimizer)
    params = params_of(optimizer) if switching else []
    before = [param.detach().clone() for param in params]
    for each in switching:
        each.eval()
    try:
        yield
    finally:
        train(optimizer)
        with torch.no_grad():
            for param, value in zip(params, before, strict=True):
                param.copy_(value)
