"""Means over an evaluation, over the batches of all processes: what the stock tasks measure.

A task of one's own may have torchmetrics in their place, which it is like; loading that takes over a second.
"""

from collections.abc import Iterator, Mapping
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor


class Mean:
    """The sum of values by their number, or by what they are `for`; NaN where there was none.

    Sums are in float64, and stay on the device until somebody looks.

    >>> loss = Mean()
    >>> loss.update(torch.tensor([1.0, 2.0]))
    >>> loss.update(torch.tensor([6.0]))
    >>> loss.compute().item()
    3.0
    """

    def __init__(self, higher_is_better: bool | None = None) -> None:
        self.higher_is_better = higher_is_better
        self.sums = torch.zeros(2, dtype=torch.float64)

    def update(self, values: Tensor, counts: Tensor | None = None) -> None:
        """Take in values, each for one, or all of them for as many as `counts` has in all."""
        count = values.numel() if counts is None else counts.sum()
        self.sums[0] += values.sum(dtype=self.sums.dtype)
        self.sums[1] += count

    def compute(self) -> Tensor:
        """Return the mean of what all processes have taken in, which all of them have to ask for."""
        return Metrics(mean=self).compute()["mean"]

    def reset(self) -> None:
        """Forget what was taken in."""
        self.sums.zero_()

    def to(self, device: torch.device | str) -> Self:
        """Sum up on that device: in float32 on MPS, which has no float64."""
        device = torch.device(device)
        self.sums = self.sums.to(device, torch.float32 if device.type == "mps" else torch.float64)
        return self


class Metrics(Mapping[str, Mean]):
    """Means by name, computed with one exchange between processes."""

    def __init__(self, **means: Mean) -> None:
        self._means = means

    def __getitem__(self, name: str) -> Mean:
        return self._means[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._means)

    def __len__(self) -> int:
        return len(self._means)

    def compute(self) -> dict[str, Tensor]:
        """Return the means, by name; all processes have to ask."""
        sums = torch.stack([mean.sums for mean in self.values()])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        return dict(zip(self, sums[:, 0] / sums[:, 1], strict=True))

    def reset(self) -> None:
        """Forget what was taken in."""
        for mean in self.values():
            mean.reset()

    def to(self, device: torch.device | str) -> Self:
        """Sum up on that device."""
        for mean in self.values():
            mean.to(device)
        return self
