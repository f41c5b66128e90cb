"""OptimWrapper: one interface for plain, accumulated and clipped training."""

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optwrap.errors import ConfigError
from optwrap.optim.assignment import Assignment
from optwrap.optim.clip import multiply_grads, parse_clip_grad
from optwrap.optim.counts import MicroBatches
from optwrap.optim.sync import no_sync, parallel_modules, set_fsdp2_sync
from optwrap.optim.weighted import WeightedWindow


class OptimWrapper:
    """An optimizer with gradient accumulation and clipping behind `update_params(loss)`.

    Args:
        optimizer: any `torch.optim.Optimizer`.
        accumulative_counts: micro-batches that make an update.
        clip_grad: `{max_norm, norm_type=2, error_if_nonfinite=False}`, `{clip_value}` or None.

    Attributes:
        updates, skipped_steps: optimizer steps made, and dropped because of an overflow.
        last_grad_norm: total norm before the latest clipping by norm: a scalar tensor, left on its device.
        assignments: what each parameter got, where a constructor built the wrapper.

    >>> model = nn.Linear(1, 1)
    >>> optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01), accumulative_counts=2)
    >>> for _ in range(4):
    ...     optim_wrapper.update_params(model(torch.ones(1, 1)).mean())
    >>> optim_wrapper.updates
    2
    """

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        clip_grad: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}.")
        if type(accumulative_counts) is not int or accumulative_counts < 1:
            raise ConfigError(f"accumulative_counts={accumulative_counts!r}: it must be a whole number from 1 up.")
        self.optimizer = optimizer
        self.clip_grad = parse_clip_grad(clip_grad)
        self.assignments: list[Assignment] = []
        self.updates = 0
        self.skipped_steps = 0
        self.last_grad_norm: Tensor | None = None
        self._counts = MicroBatches(accumulative_counts)
        self._weighted = WeightedWindow()
        self._model: nn.Module | None = None
        self._parallel: list[nn.Module] | None = None

    @property
    def accumulative_counts(self) -> int:
        """Micro-batches that make an update."""
        return self._counts.accumulative_counts

    @property
    def inner_count(self) -> int:
        """Micro-batches so far."""
        return self._counts.done

    # Training ---------------------------------------------------------------------------------------------

    def update_params(
        self,
        loss: Tensor,
        step_kwargs: Mapping[str, Any] | None = None,
        zero_kwargs: Mapping[str, Any] | None = None,
        *,
        weight: float | Tensor | None = None,
    ) -> None:
        """Normalise, differentiate and, at the end of a window, clip, step and zero.

        Args:
            loss: a scalar: the mean over the micro-batch.
            step_kwargs, zero_kwargs: passed to `step` and `zero_grad`.
            weight: over how many items (tokens, pixels, samples) `loss` is a mean. The update's gradient is
                then the mean over all items of all its micro-batches and processes.

        Raises:
            ValueError: the count passes `max_counts`, or some micro-batches of a window have a weight.
        """
        self.backward(self.scale_loss(loss, weight))
        if self.should_update():
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def scale_loss(self, loss: Tensor, weight: float | Tensor | None = None) -> Tensor:
        """Return the normalised loss: divided by the length of its window, or weighted by its items."""
        self._counts.check_room()
        position, length = self._counts.window()
        if position == 0:
            self._weighted.clear()
        elif (weight is None) != (self._weighted.total is None):
            raise ValueError("Give every micro-batch of an update a weight, or none of them.")
        if weight is not None:
            _check_weight(weight)
            return self._weighted.weigh(loss, weight, self.accumulative_counts, self._parallel)
        return loss if length == 1 else loss / length

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Differentiate `loss` and count one micro-batch; gradients are averaged only if it updates."""
        self._counts.check_room()
        hold = self._parallel if self._parallel and not self.should_sync() else ()
        with no_sync(hold):
            loss.backward(**kwargs)
        self._counts.advance()

    def step(self, **kwargs: Any) -> None:
        """Finish the gradients (weighted mean, clipping) and step the optimizer."""
        self._finish_grads()
        self.optimizer.step(**kwargs)
        self.updates += 1

    def zero_grad(self, **kwargs: Any) -> None:
        """Zero the gradients, as `optimizer.zero_grad(**kwargs)`."""
        self.optimizer.zero_grad(**kwargs)

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of `model` inside; holds back gradient averaging between updates."""
        if model is not self._model:
            self._model, self._parallel = model, parallel_modules(model)
        if not self._parallel:
            yield
            return
        sync = self.should_sync()
        set_fsdp2_sync(self._parallel, sync)
        with no_sync(() if sync else self._parallel):
            yield

    def should_update(self) -> bool:
        """Whether the micro-batches so far end a window."""
        return self._counts.ends_window(self.inner_count)

    def should_sync(self) -> bool:
        """Whether the next micro-batch ends a window, so that its gradients must be averaged."""
        return self._counts.ends_window(self.inner_count + 1)

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int | None) -> None:
        """Tell how many micro-batches lie behind, and how many there are in all (None or -1: unknown).

        Raises:
            ValueError: `init_counts` is negative or larger than `max_counts`.
        """
        self._counts.start(init_counts, None if max_counts == -1 else max_counts)
        self._model, self._parallel = model, parallel_modules(model)

    # Hyperparameters --------------------------------------------------------------------------------------

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's own param groups."""
        return self.optimizer.param_groups

    def get_lr(self) -> dict[str, list[float]]:
        """Return `{'lr': [...]}`, one entry a param group."""
        return {"lr": [_number(group["lr"]) for group in self.param_groups]}

    def get_momentum(self) -> dict[str, list[float]]:
        """Return `{'momentum': [...]}`, one entry a param group; Adam's is beta1, none is 0."""
        return {"momentum": [_number(_momentum(group)) for group in self.param_groups]}

    # State ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's own state dict; inside a window, `accumulation` adds what it holds so far."""
        state = self.optimizer.state_dict()
        position, _ = self._counts.window()
        if position > 0 and not self.should_update():
            state["accumulation"] = {
                "micro_batches": position,
                "items": None if self._weighted.total is None else self._weighted.state_dict(),
                "grads": [None if p.grad is None else p.grad.clone() for p in self._params()],
            }
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the argument stays as it is, whatever training does later.

        Raises:
            ValueError: the param groups do not fit those of the optimizer.
        """
        state = {name: value for name, value in state_dict.items() if name != "accumulation"}
        self.optimizer.load_state_dict(copy.deepcopy(state))
        accumulation = state_dict.get("accumulation")
        self._weighted.clear()
        self._counts.restore(0 if accumulation is None else accumulation["micro_batches"])
        if accumulation is None:
            return
        for param, grad in zip(self._params(), accumulation["grads"], strict=True):
            param.grad = None if grad is None else grad.to(param.device, copy=True)
        if accumulation["items"] is not None:
            self._weighted.load_state_dict(accumulation["items"])

    # Inside -----------------------------------------------------------------------------------------------

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    def _finish_grads(self) -> None:
        if self._weighted.total is not None:
            grads = [param.grad for param in self._params() if param.grad is not None]
            multiply_grads(grads, self._weighted.factor(self._parallel))
            self._weighted.clear()
        if self.clip_grad is not None:
            norm = self.clip_grad(self._params())
            self.last_grad_norm = self.last_grad_norm if norm is None else norm


def _check_weight(weight: float | Tensor) -> None:
    # A tensor stays unread: that would wait for the device.
    if not isinstance(weight, Tensor) and not (weight >= 0 and math.isfinite(weight)):
        raise ValueError(f"weight={weight!r} must be a finite number of items, 0 or more.")


def _momentum(group: Mapping[str, Any]) -> Any:
    if "momentum" in group:
        return group["momentum"]
    betas: Sequence[Any] = group.get("betas", (0,))
    return betas[0]


def _number(value: Any) -> float:
    return value.item() if isinstance(value, torch.Tensor) else value
