"""What users read of a wrapper, and may put in its place: its optimizer, hyperparameters and counters."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from optwrap.optim.assignment.hyperparameters import lr_of, momentum_of
from optwrap.optim.assignment.table import Assignment
from optwrap.optim.averaging.average import WeightAverage
from optwrap.optim.averaging.switched import train
from optwrap.optim.parallel.sync import ParallelModules
from optwrap.optim.step.clip import ClipNorm, ClipValue
from optwrap.optim.step.finish import Finish
from optwrap.optim.window.accumulation import AccumulationWindow
from optwrap.optim.window.counts import StepCounts


class Readings:
    """A wrapper's optimizer and hyperparameters, its micro-batches, updates and skipped steps."""

    clip_grad: ClipNorm | ClipValue | None
    averaging: WeightAverage | None
    assignments: list[Assignment]
    _finish: Finish
    _parallel: ParallelModules
    _window: AccumulationWindow
    _steps: StepCounts

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        return self._finish.kernel.optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Optimizer) -> None:
        """Put another optimizer in its place, looked at as one that a wrapper begins with.

        Averages of parameters that both have go on; schedules are built after it.
        """
        before = self._finish.kernel
        self._finish = self._finish.around(optimizer)
        self._finish.check(self.clip_grad)
        self._parallel.untrained.exchange(before.optimizer, optimizer)
        self.assignments = []
        if self.averaging is not None:
            self.averaging.follow(before.params, self._finish.kernel.params)
        train(optimizer)

    @property
    def defaults(self) -> dict[str, Any]:
        """The options that the optimizer was given, for groups that have none of their own."""
        return self.optimizer.defaults

    @property
    def last_grad_norm(self) -> Tensor | None:
        """Total norm before the latest clipping by norm: a scalar tensor, left on its device."""
        return self._finish.norm

    @last_grad_norm.setter
    def last_grad_norm(self, norm: Tensor | None) -> None:
        self._finish.norm = norm

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's own param groups."""
        return self.optimizer.param_groups

    def get_lr(self) -> dict[str, list[float]]:
        """Return `{'lr': [...]}`, one entry a param group."""
        return {"lr": [lr_of(group) for group in self.param_groups]}

    def get_momentum(self) -> dict[str, list[float]]:
        """Return `{'momentum': [...]}`, one entry a param group; Adam's is beta1, none is 0."""
        return {"momentum": [momentum_of(group) for group in self.param_groups]}

    @property
    def accumulative_counts(self) -> int:
        """Micro-batches that make an update."""
        return self._window.counts.accumulative_counts

    @property
    def is_weighted(self) -> bool:
        """Whether the micro-batches of this window have weights."""
        return self._window.is_weighted

    @property
    def inner_count(self) -> int:
        """Micro-batches so far."""
        return self._window.counts.done

    @property
    def _inner_count(self) -> int:
        """As subclasses written for MMEngine have it: a `backward` of their own adds 1."""
        return self._window.counts.done

    @_inner_count.setter
    def _inner_count(self, count: int) -> None:
        if count == self._window.counts.done + 1:
            self._window.count()
        else:
            self._window.counts.done = count

    @property
    def max_counts(self) -> int | None:
        """Micro-batches of the whole run; None where unknown."""
        return self._window.counts.maximum

    @property
    def updates(self) -> int:
        """Optimizer steps made. With loss scaling on CUDA this waits for the device, `updates_so_far` does not."""
        self._steps.settle()
        return self._steps.made

    @updates.setter
    def updates(self, count: int) -> None:
        self._steps.made = count

    @property
    def skipped_steps(self) -> int:
        """Optimizer steps dropped because of an overflow; waits as `updates` does."""
        self._steps.settle()
        return self._steps.skipped

    @skipped_steps.setter
    def skipped_steps(self, count: int) -> None:
        self._steps.skipped = count

    @property
    def updates_so_far(self) -> int:
        """Updates, without waiting: a few of the latest may turn out to be skipped steps."""
        return self._steps.made
