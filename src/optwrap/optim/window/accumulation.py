"""The accumulation window of a wrapper: how losses are normalised, and what the gradients hold."""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from optwrap.errors import ConfigError
from optwrap.optim.parallel.sharded_state import placed_as
from optwrap.optim.step.clip import multiply_grads
from optwrap.optim.window.counts import MicroBatches
from optwrap.optim.window.weighted import WeightedWindow

logger = logging.getLogger(__name__)

Weight = float | Tensor | None
"""Over how many items the loss of a micro-batch is a mean; None: over the micro-batch."""


class AccumulationWindow:
    """Normalises the losses of a window, by its length or by their weights.

    Raises:
        ConfigError: `accumulative_counts` is no whole number from 1 up.
    """

    def __init__(self, accumulative_counts: int) -> None:
        if type(accumulative_counts) is not int or accumulative_counts < 1:
            raise ConfigError(f"accumulative_counts={accumulative_counts!r}: it must be a whole number from 1 up.")
        self.counts = MicroBatches(accumulative_counts)
        self._weighted = WeightedWindow(accumulative_counts)
        self._has_met = False  # batch norm
        self._looked_at: int | None = None
        self._length = 1  # by which the gradients now held were divided

    @property
    def is_weighted(self) -> bool:
        """Whether a micro-batch of the window, or the one whose backward pass is to come, has a weight."""
        return self._weighted.total is not None or self._weighted.pending is not None

    def normalise(
        self,
        loss: Tensor,
        weight: Weight,
        params: Callable[[], Sequence[Tensor]],
        parallel: Sequence[nn.Module] | None,
    ) -> Tensor:
        """Return the loss to differentiate.

        Raises:
            ValueError: the run is over, or some micro-batches of the window have a weight and some have none.
        """
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"update_params takes the loss as a tensor, as the model gave it, not {loss!r}. item() cuts it."
            )
        length = self.counts.window_length()
        begun = self.counts.held > 0 or self._weighted.total is not None
        if begun and (weight is None) != (self._weighted.total is None):
            raise ValueError("Give every micro-batch of an update a weight, or none of them.")
        if weight is not None:
            _check_weight(weight)
            return self._weighted.weigh(loss, weight, parallel)
        if self.counts.held and length != self._length:  # a resumed run's plan may be another one
            multiply_grads(_grads(params()), torch.tensor(self._length / length))
        self._length = length
        return loss if length == 1 else loss / length

    def count(self) -> None:
        """Count the micro-batch whose gradients have just been added."""
        if self._weighted.pending is not None:
            self._weighted.count()
        self.counts.advance()

    @contextmanager
    def counted_once(self) -> Iterator[None]:
        """Count a micro-batch whose gradients are added inside, unless that is done there."""
        before = self.counts.done
        yield
        if self.counts.done == before:
            self.counts.check_room()
            self.count()

    def meet(self, model: nn.Module) -> None:
        """Say once where the model has layers that see micro-batches alone, whatever is accumulated."""
        if self.counts.accumulative_counts == 1 or self._has_met or self._looked_at == id(model):
            return
        self._looked_at = id(model)  # not in each micro-batch: a large model has thousands of modules
        if any(isinstance(module, _BatchNorm) for module in model.modules()):
            self._has_met = True
            logger.info(
                "accumulative_counts=%d: batch norm has the statistics of micro-batches, not those of an update.",
                self.counts.accumulative_counts,
            )

    def finish(self, parallel: Sequence[nn.Module] | None) -> Tensor | None:
        """End a window; return what makes its gradients the mean over items, None where they are means."""
        if self._weighted.total is None:
            return None
        factor = self._weighted.factor(parallel)
        self._weighted.clear()
        return factor

    def clear(self) -> None:
        """Forget what the gradients held: they have been zeroed."""
        if self._weighted.total is not None:
            self._weighted.clear()
        self.counts.held = 0

    def state_dict(self, params: Sequence[Tensor], scale: float) -> dict[str, Any]:
        """Return what a run needs to go on inside a window; its gradients are `scale` times too large."""
        return {
            "inner_count": self.counts.done,
            "held": self.counts.held,
            "length": self._length,
            "scale": scale,
            "items": None if self._weighted.total is None else self._weighted.state_dict(),
            "grads": [None if param.grad is None else param.grad.clone() for param in params],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], params: Sequence[Tensor], scale: float) -> None:
        """Load what `state_dict` returned into gradients that shall be `scale` times too large."""
        state = copy.deepcopy(dict(state_dict))
        self.counts.restore(state["inner_count"], state["held"])
        self._length = state["length"]
        for param, grad in zip(params, state["grads"], strict=True):
            param.grad = None if grad is None else placed_as(param, grad.to(param.device))
        if scale != state["scale"]:
            factor = scale / state["scale"] if state["scale"] else 0.0  # a scale of 0 left nothing of them
            multiply_grads(_grads(params), torch.tensor(factor))
        if state["items"] is not None:
            self._weighted.load_state_dict(state["items"])


def _grads(params: Sequence[Tensor]) -> list[Tensor]:
    return [param.grad for param in params if param.grad is not None]


def _check_weight(weight: float | Tensor) -> None:
    # A tensor stays unread: that would wait for the device.
    if not isinstance(weight, Tensor) and not (weight >= 0 and math.isfinite(weight)):
        raise ValueError(f"weight={weight!r} must be a finite number of items, 0 or more.")
