"""Weighted accumulation: the mean over all items of all micro-batches and all processes of an update."""

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from optwrap.optim.parallel.sync import all_reduce, scalar, world_size
from optwrap.optim.window.no_items import without_items


class WeightedWindow:
    """The weights of one accumulation window, kept on the device.

    A loss that is a mean over n items counts n times: each is multiplied by n over a reference (which keeps
    scaled fp16 gradients in range), and the accumulated gradient by `factor` at the update.
    """

    def __init__(self, micro_batches: int) -> None:
        self.total: Tensor | None = None  # items of this window on this process; None before its first one
        self.pending: Tensor | None = None  # items of the micro-batch whose backward pass is not yet done
        self._micro_batches = micro_batches
        self._reference: Tensor | None = None
        self._handles: list[RemovableHandle] = []  # what keeps a loss without items out of the gradients

    def weigh(self, loss: Tensor, weight: float | Tensor, modules: Sequence[nn.Module] | None) -> Tensor:
        """Return the loss to differentiate for a micro-batch of `weight` items."""
        items = scalar(weight, loss.device)
        if self._reference is None:
            self._reference = self._near(all_reduce(items, modules, dist.ReduceOp.MAX))
        self.pending = items
        weighed = loss * (items / self._reference)
        self._handles += without_items(loss, weighed, weight)
        return weighed

    def count(self) -> None:
        """Count the items that are pending: their gradients are there now."""
        assert self.pending is not None
        self.total = self.pending if self.total is None else self.total + self.pending
        self.pending = None
        while self._handles:
            self._handles.pop().remove()

    def factor(self, modules: Sequence[nn.Module] | None) -> Tensor:
        """Return what turns the accumulated gradient into the mean over items: 0 where there were none."""
        assert self.total is not None
        assert self._reference is not None
        processes = world_size(modules)
        total = all_reduce(self.total, modules, dist.ReduceOp.SUM)
        # Data-parallel modules have averaged over processes, which the total counts again.
        factor = torch.where(total > 0, self._reference * processes / total, torch.zeros_like(total))
        near = self._near(total / processes / self._micro_batches)
        self._reference = torch.where(total > 0, near, self._reference)
        return factor

    def clear(self) -> None:
        """Start a new window; a micro-batch that is weighed but not yet differentiated belongs to it."""
        self.total = None

    def state_dict(self) -> dict[str, Tensor | None]:
        """Return what a run saved inside a window needs to go on."""
        return {"total": self.total, "reference": self._reference}

    def load_state_dict(self, state_dict: Mapping[str, Tensor | None]) -> None:
        """Load what `state_dict` returned."""
        self.total, self._reference = state_dict["total"], state_dict["reference"]

    def _near(self, items: Tensor) -> Tensor:
        # A power of two, the same on every process: it costs no precision and the result does not depend on it.
        return torch.exp2(torch.frexp(items).exponent.float()) * self._micro_batches
