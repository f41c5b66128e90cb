"""Counting micro-batches and steps: where accumulation windows begin, end and update, and what came of it."""

import logging
import math
from collections import deque

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def calls_in(batches: int, calls_per_batch: float) -> int:
    """Return the micro-batches that a wrapper sees in so many batches of data, rounded up.

    >>> calls_in(16, 2), calls_in(16, 0.2)
    (32, 4)
    """
    return math.ceil(round(batches * calls_per_batch, 6))


class MicroBatches:
    """How many micro-batches are done, and how many of them the gradients now hold.

    A window ends at every multiple of `accumulative_counts`, and at `maximum` where that is known.
    """

    def __init__(self, accumulative_counts: int) -> None:
        self.accumulative_counts = accumulative_counts
        self.done = 0
        self.held = 0
        self.maximum: int | None = None

    def start(self, done: int, maximum: int | None) -> None:
        """Begin or go on with a run of `maximum` micro-batches (None: unknown) of which `done` lie behind.

        Gradients that are held stay held if they are those of the window that `done` lies in.

        Raises:
            ValueError: `done` is negative or larger than `maximum`.
        """
        if done < 0 or (maximum is not None and done > maximum):
            raise ValueError(f"init_counts={done} must lie between 0 and max_counts={maximum}.")
        self.done, self.maximum = done, maximum
        missing = done % self.accumulative_counts
        if self.held == missing:
            return
        dropped, self.held = self.held, 0
        if dropped and done:
            logger.warning("The gradients of %d micro-batches do not fit a start at %d: dropped.", dropped, done)
        elif dropped:
            logger.warning(
                "A new run begins: the last %d micro-batches of the one before filled no window of %d, and made "
                "no update. initialize_count_status(model, 0, max_counts) makes the last window shorter.",
                *(dropped, self.accumulative_counts),
            )
        if missing:
            logger.warning(
                "Starting at micro-batch %d, inside a window of %d: the gradients of %d micro-batches are not "
                "there, so the first update is the mean of the others.",
                *(done, self.accumulative_counts, missing),
            )

    def restore(self, done: int, held: int) -> None:
        """Go on after `done` micro-batches, with the gradients of the last `held` of them."""
        self.done, self.held = done, held

    def advance(self) -> None:
        """Count one micro-batch."""
        self.done += 1
        self.held = 0 if self.ends_window(self.done) else self.held + 1

    def ends_window(self, count: int) -> bool:
        """Whether a window ends after `count` micro-batches."""
        return count % self.accumulative_counts == 0 or count == self.maximum

    def updates_planned(self) -> int | None:
        """Return the updates of the whole run, where its length is known."""
        return None if self.maximum is None else math.ceil(self.maximum / self.accumulative_counts)

    def window_length(self) -> int:
        """Return how many micro-batches the next one's update is made of; ValueError if there is no next one."""
        self.check_room()
        end = self.done - self.done % self.accumulative_counts + self.accumulative_counts
        if self.maximum is not None:
            end = min(end, self.maximum)
        return self.held + end - self.done

    def check_room(self) -> None:
        """Raise ValueError if there is no next micro-batch."""
        if self.maximum is not None and self.done >= self.maximum:
            raise ValueError(
                f"All {self.maximum} micro-batches (max_counts) are done; call initialize_count_status for a "
                "further run. In a run's config, calls_per_batch says how many there are for a batch of data."
            )


class StepCounts:
    """Steps made and skipped. On CUDA the device decides, and the host learns of it without waiting.

    What came of a step is read `LAG` steps later, by when the device is done with it; always at the same step, so
    that runs repeat. Until then it counts as made. `settle` reads all of them, and waits.
    """

    LAG = 8
    MANY = 40  # that a scale of 65536 is halved so often in a row needs gradients that no scale makes finite

    def __init__(self) -> None:
        self.made = 0
        self.skipped = 0
        self._in_a_row = 0
        self._pending: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    @property
    def total(self) -> int:
        """Steps so far, skipped ones included."""
        return self.made + self.skipped

    def count(self, skipped: bool | Tensor) -> None:
        """Count a step; a tensor is 1 where it was skipped, and is read later."""
        if not isinstance(skipped, Tensor):
            self.made += not skipped
            self.skipped += skipped
            self._watch(skipped)
            return
        self.made += 1
        on_host = skipped.to("cpu", non_blocking=True)
        copied = torch.cuda.current_stream(skipped.device).record_event() if skipped.is_cuda else None
        self._pending.append((on_host, copied))
        if len(self._pending) > self.LAG:
            self._read()

    def settle(self) -> None:
        """Wait for the device and learn what came of every step."""
        while self._pending:
            self._read()

    def _read(self) -> None:
        on_host, copied = self._pending.popleft()
        if copied is not None:
            copied.synchronize()
        skipped = int(on_host.item())
        self.made -= skipped
        self.skipped += skipped
        self._watch(bool(skipped))

    def _watch(self, skipped: bool) -> None:
        self._in_a_row = self._in_a_row + 1 if skipped else 0
        if self._in_a_row == self.MANY:
            logger.warning(
                "%d steps in a row were skipped: the gradients are not finite, whatever the scale "
                "(optim_wrapper.loss_scale). Nothing is learned. Look for NaN in data and loss, or compute in "
                "optim_wrapper.dtype=bfloat16.",
                self.MANY,
            )
