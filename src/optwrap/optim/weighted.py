"""Weighted accumulation: the mean over all items of all micro-batches and all processes of an update."""

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from optwrap.optim.sync import all_reduce, scalar, world_size


class WeightedWindow:
    """The weights of one accumulation window, kept on the device.

    A loss that is a mean over n items counts n times: each is multiplied by n over a fixed reference (which
    keeps scaled fp16 gradients in range), and the accumulated gradient by `factor` at the update.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None  # items of this window on this process; None before its first one
        self._reference: Tensor | None = None

    def weigh(
        self, loss: Tensor, weight: float | Tensor, micro_batches: int, modules: Sequence[nn.Module] | None
    ) -> Tensor:
        """Return the loss to differentiate for a micro-batch of `weight` items, and count them."""
        items = scalar(weight, loss.device)
        if self._reference is None:
            # A power of two near the first weight, the same on every process: it costs no precision, and
            # the result does not depend on it.
            largest = all_reduce(items, modules, dist.ReduceOp.MAX)
            self._reference = torch.exp2(torch.frexp(largest).exponent.float()) * micro_batches
        self.total = items if self.total is None else self.total + items
        return loss * (items / self._reference)

    def factor(self, modules: Sequence[nn.Module] | None) -> Tensor:
        """Return what turns the accumulated gradient into the mean over items: 0 where there were none."""
        assert self.total is not None
        assert self._reference is not None
        total = all_reduce(self.total, modules, dist.ReduceOp.SUM)
        # Data-parallel modules have averaged over processes, which the total counts again.
        factor = self._reference * world_size(modules) / total
        return torch.where(total > 0, factor, torch.zeros_like(factor))

    def clear(self) -> None:
        """Start a new window."""
        self.total = None

    def state_dict(self) -> dict[str, Tensor | None]:
        """Return what a run saved inside a window needs to go on."""
        return {"total": self.total, "reference": self._reference}

    def load_state_dict(self, state_dict: Mapping[str, Tensor | None]) -> None:
        """Load what `state_dict` returned."""
        self.total, self._reference = state_dict["total"], state_dict["reference"]
