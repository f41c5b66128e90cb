"""Counting micro-batches: where accumulation windows begin, end and update."""

import logging

logger = logging.getLogger(__name__)


class MicroBatches:
    """How many micro-batches are done, and the window of `accumulative_counts` that the next one falls into.

    A window ends at every multiple of `accumulative_counts`, and at `maximum` where that is known.
    """

    def __init__(self, accumulative_counts: int) -> None:
        self.accumulative_counts = accumulative_counts
        self.done = 0
        self.maximum: int | None = None
        self._first = 0  # the count at which the gradients held now began, where that is inside a window
        self._restored = 0  # micro-batches whose gradients a state dict brought back

    def start(self, done: int, maximum: int | None) -> None:
        """Begin a run of `maximum` micro-batches (None: unknown) of which `done` lie behind.

        Raises:
            ValueError: `done` is negative or larger than `maximum`.
        """
        if done < 0 or (maximum is not None and done > maximum):
            raise ValueError(f"init_counts={done} must lie between 0 and max_counts={maximum}.")
        self.done, self.maximum = done, maximum
        self._first = done - self._restored
        if (lost := done % self.accumulative_counts - self._restored) > 0:
            logger.warning(
                "Starting at micro-batch %d, inside a window of %d: the gradients of %d micro-batches are not "
                "there, so the first update is the mean of the others.",
                *(done, self.accumulative_counts, lost),
            )

    def restore(self, held: int) -> None:
        """Tell that the gradients of the last `held` micro-batches are there again, whatever was before."""
        self._restored = held
        self._first = self.done - held

    def advance(self) -> None:
        """Count one micro-batch."""
        self.done += 1
        self._restored = 0

    def ends_window(self, count: int) -> bool:
        """Whether a window ends after `count` micro-batches."""
        return count % self.accumulative_counts == 0 or count == self.maximum

    def window(self) -> tuple[int, int]:
        """Return the next micro-batch's position in its window, from 0, and the window's length."""
        begin = self.done - self.done % self.accumulative_counts
        end = begin + self.accumulative_counts
        if self.maximum is not None:
            end = min(end, self.maximum)
        begin = max(begin, self._first)
        return self.done - begin, end - begin

    def check_room(self) -> None:
        """Raise ValueError if there is no next micro-batch."""
        if self.maximum is not None and self.done >= self.maximum:
            raise ValueError(
                f"All {self.maximum} micro-batches (max_counts) are done; call initialize_count_status for a "
                "further run."
            )
