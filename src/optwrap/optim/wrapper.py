"""OptimWrapper: one interface for plain, accumulated and clipped training."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from optwrap.optim.assignment.table import Assignment
from optwrap.optim.assignment.untrained import Untrained
from optwrap.optim.averaging.average import parse_averaging
from optwrap.optim.averaging.switched import switched, train
from optwrap.optim.parallel.sync import ParallelModules, averaged, no_sync, set_fsdp2_sync
from optwrap.optim.parallel.thawing import Freezer
from optwrap.optim.perturbation.passes import Passes, check_climbed, climb, role_of_call
from optwrap.optim.perturbation.sam import parse_sam
from optwrap.optim.readings import Readings
from optwrap.optim.step.clip import parse_clip_grad
from optwrap.optim.step.direct import zero_grad
from optwrap.optim.step.finish import Finish
from optwrap.optim.step.layout import params_of
from optwrap.optim.step.loading import in_own_order
from optwrap.optim.step.own_step import bare
from optwrap.optim.window.accumulation import AccumulationWindow, Weight
from optwrap.optim.window.counts import StepCounts

Kwargs = Mapping[str, Any] | None


class OptimWrapper(Readings):
    """An optimizer with gradient accumulation and clipping behind `update_params(loss)`.

    Args:
        optimizer: any `torch.optim.Optimizer`.
        accumulative_counts: micro-batches that make an update.
        clip_grad: `{max_norm, norm_type=2, error_if_nonfinite=False}`, `{clip_value}` or None.
        averaging: arguments of `WeightAverage`, whose averages are evaluated in place of the weights, or None.
        sam: `{rho, adaptive=False}`, the arguments of `Sam`, or None; a training step then goes `in_passes`.

    Steps use the fused kernel where there is one, unless the optimizer is given `fused`, `foreach`, `capturable`
    or `differentiable`, and finish the gradients inside it. Step hooks and a replaced `step` find them finished.
    Call the wrapper's `step`, not the optimizer's: only there is checked that the kernel is right.

    >>> import torch
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
        clip_grad: Kwargs = None,
        averaging: Kwargs = None,
        sam: Kwargs = None,
    ) -> None:
        self.clip_grad = parse_clip_grad(clip_grad)
        self.averaging, self.sam = parse_averaging(averaging), parse_sam(sam)
        self.passes: Passes | None = None  # of the training step that is being made
        self.freezer = Freezer([])
        self.assignments: list[Assignment] = []  # of each parameter, where a constructor built the wrapper
        self.calls_per_batch = 1.0  # of update_params, for a batch of data: what a run's length is planned by
        self.norm_is_due: Callable[[int], bool] | None = None  # updates (from 1) whose norm is measured anyway
        self.after_step: list[Callable[[], None]] = []  # called after a step, while its gradients are there
        self._window = AccumulationWindow(accumulative_counts)
        self._parallel = ParallelModules(Untrained([optimizer]))
        self._steps = StepCounts()
        self._finish = Finish(optimizer, accumulates=accumulative_counts > 1)
        self._finish.check(self.clip_grad)
        train(optimizer)

    def update_params(
        self, loss: Tensor, step_kwargs: Kwargs = None, zero_kwargs: Kwargs = None, *, weight: Weight = None
    ) -> None:
        """Normalise, differentiate and, at the end of a window, clip, step and zero.

        Args:
            loss: a scalar: the mean over the micro-batch.
            step_kwargs, zero_kwargs: passed to `step` and `zero_grad`.
            weight: over how many items (tokens, pixels, samples) `loss` is a mean. The update's gradient is
                then the mean over all items of all its micro-batches and processes; 0/0 over 0 items adds zero.

        Raises:
            ValueError: the count passes `max_counts`, or some micro-batches of a window have a weight.
        """
        if (role := role_of_call(self.passes, self.sam)) != "update":
            if role == "climb" and self.sam is not None:
                with no_sync(self._parallel.all or ()):
                    climb(self.sam, self.freezer.trains(self._params()), self._finish.scaled(loss))
            return
        with self._window.counted_once():  # whatever a subclass's backward does
            self.backward(self.scale_loss(loss if self.sam is None else self.sam.checked(loss), weight))
        if self.sam is not None:
            self.sam.go_back()
        if self.should_update():
            before = self._steps.total
            self.step(**(step_kwargs or {}))
            if self._steps.total == before:  # a subclass's step counts as one too
                self._count_step(False, self.updates_so_far)
            self.zero_grad(**(zero_kwargs or {}))

    def scale_loss(self, loss: Tensor, weight: Weight = None) -> Tensor:
        """Return the normalised loss: divided by the length of its window, or weighted by its items."""
        return self._window.normalise(loss, weight, self._params, self._parallel.all)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Differentiate `loss` and count one micro-batch; gradients are averaged only if it updates.

        Raises:
            ConfigError: DDP could not average them, since parameters were not used in the loss.
        """
        self._window.counts.check_room()
        check_climbed(self.sam)
        if not self._parallel.all:
            loss.backward(**kwargs)
        else:
            with averaged(self._parallel.all) if self.should_sync() else no_sync(self._parallel.all):
                loss.backward(**kwargs)
        self._window.count()

    def step(self, **kwargs: Any) -> None:
        """Finish the gradients (weighted mean, unscaling, clipping) and step, unless they overflowed.

        The gradients are then the finished ones; a skipped step may leave them as the backward pass did.
        """
        measure = self.norm_is_due is not None and self.norm_is_due(self._steps.total + 1)
        factor = self._window.finish(self._parallel.all)
        self.freezer.drop()
        before = self.updates_so_far
        self._count_step(self._finish.step(self.clip_grad, factor, measure, kwargs), before)
        for call in self.after_step:
            call()

    def _count_step(self, skipped: bool | Tensor, before: int) -> None:
        self._steps.count(skipped)
        if not isinstance(skipped, Tensor):  # a hook may have dropped it, and taken it from the count
            skipped = self.updates_so_far == before
        self.freezer.thaw(self.updates_so_far)
        if self.averaging is not None:
            self.averaging.step(self._params(), skipped, self._window.counts.updates_planned())

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Evaluate averages of the weights inside, or what the optimizer keeps for it, and then go back."""
        averaging = self.averaging
        with switched(self.optimizer), averaging.in_place_of(self._params()) if averaging else nullcontext():
            yield

    def compile_step(self, **kwargs: Any) -> None:
        """Compile the optimizer's step, `kwargs` as for torch.compile, instead of using its fused kernel."""
        self._finish.kernel.compile(**kwargs)

    def zero_grad(self, **kwargs: Any) -> None:
        """Zero the gradients, as `optimizer.zero_grad(**kwargs)`."""
        zero_grad(self.optimizer, **kwargs)
        self._window.clear()

    def optim_context(self, model: nn.Module) -> AbstractContextManager[None]:
        """Run the forward pass of `model` inside; holds back gradient averaging between updates.

        A model that is new here is searched for trainable parameters in no param group, and again at every
        `state_dict`: a warning names them.
        """
        modules = self._parallel.see(model)
        if not modules:
            return nullcontext()
        self._check_parallel()
        set_fsdp2_sync(modules, sync := self.should_sync())
        climbs = self.sam is not None and not self.sam.has_climbed
        return no_sync(() if sync and not climbs else modules)

    def train_beside(self, untrained: Untrained) -> None:
        """Let `untrained`, which knows of other wrappers too, say which parameters nobody trains."""
        self._parallel.untrained = untrained

    def should_update(self) -> bool:
        """Whether the micro-batches so far end a window."""
        return self._window.counts.ends_window(self._window.counts.done)

    def should_sync(self) -> bool:
        """Whether the next micro-batch ends a window, so that its gradients must be averaged."""
        return self._window.counts.ends_window(self._window.counts.done + 1)

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int | None) -> None:
        """Tell how many micro-batches lie behind, and how many there are in all (None or -1: unknown).

        Raises:
            ValueError: `init_counts` is negative or larger than `max_counts`.
        """
        held = self._window.counts.held
        self._window.counts.start(init_counts, None if max_counts == -1 else max_counts)
        if self._window.counts.held < held:  # a new run, not the rest of this one
            self.zero_grad()
        self._parallel.look_again(model)
        self._window.meet(model)
        self._check_parallel()
        if self.averaging is not None:
            self.averaging.see(model, self._params())
        self.freezer.start(self.updates_so_far, self._window.counts.updates_planned())

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's own state dict; inside a window, `accumulation` adds what it holds so far.

        Raises:
            ValueError: inside a window of a data-parallel model, whose gradients differ between processes.
        """
        if self._window.counts.held and self._parallel.all:
            raise ValueError("Save a data-parallel run after an update (should_update()), not inside a window.")
        self._parallel.look_for_untrained()
        state = bare(self.optimizer, "state_dict")()
        if self.averaging is not None:
            state["averaging"] = self.averaging.state_dict()
        if self._window.counts.held:
            state["accumulation"] = self._window.state_dict(self._params(), self._scale())
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, by name where there are names; it stays as it is, whatever follows.

        Raises:
            ValueError: parameters, param groups or the class of optimizer are others; nothing is loaded then.
        """
        state = dict(state_dict)
        accumulation, averaging = state.pop("accumulation", None), state.pop("averaging", None)
        self._finish.kernel.load_state_dict(state)
        if self.averaging is not None and averaging is not None:
            averages = averaging["averages"] and in_own_order(self.optimizer, state, averaging["averages"])
            self.averaging.load_state_dict({**averaging, "averages": averages}, self._params())
        if accumulation is not None:
            accumulation = {**accumulation, "grads": in_own_order(self.optimizer, state, accumulation["grads"])}
            self._window.load_state_dict(accumulation, self._params(), self._scale())
        elif self._window.counts.held:  # rolled back: these gradients are of another course
            self.zero_grad()

    def _params(self) -> list[Tensor]:
        return params_of(self.optimizer)

    def _scale(self) -> float:
        """By what the gradients now held are larger than they should be."""
        return 1.0

    def _check_parallel(self) -> None:
        self._parallel.check(self.accumulative_counts, self.clip_grad is not None, self._params)
        if self.sam is not None:
            self._parallel.check_sam(self.accumulative_counts)
