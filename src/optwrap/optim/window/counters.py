"""What a wrapper has counted, as its users read it."""

from optwrap.optim.window.accumulation import AccumulationWindow
from optwrap.optim.window.counts import StepCounts


class Counters:
    """Micro-batches, updates and skipped steps of a wrapper."""

    _window: AccumulationWindow
    _steps: StepCounts

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
