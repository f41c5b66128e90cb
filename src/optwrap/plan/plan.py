"""How long a run is, in micro-batches and updates, and when it logs, evaluates and saves."""

from dataclasses import dataclass

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper, OptimWrapperDict


@dataclass(frozen=True)
class Position:
    """Where a run stands: after so many micro-batches, with its data so many micro-batches ahead of that count.

    The data is ahead (or, below 0, behind) only in a run that was resumed under another batch size.
    """

    micro_batches: int = 0
    shift: int = 0


@dataclass(frozen=True)
class Plan:
    """The course of a run; counts of micro-batches and updates start at 1.

    >>> plan = Plan(micro_batches=10, per_epoch=5, accumulative_counts=4, log_every=2, eval_every=None)
    >>> plan.updates, plan.update_after(8), plan.update_after(10)
    (3, 2, 3)
    >>> [count for count in range(1, 11) if plan.evaluates_after(count)]
    [5, 10]
    """

    micro_batches: int
    per_epoch: int
    accumulative_counts: int
    log_every: int
    eval_every: int | None
    checkpoint_every: int | None = None
    start: Position = Position()
    between_updates: bool = False
    """Save only between updates: inside one, each of several ranks has gradients of its own."""
    eval_epochs: int = 1

    @property
    def updates(self) -> int:
        """Updates of the whole run, a last shorter window included."""
        return -(-self.micro_batches // self.accumulative_counts)

    def update_after(self, count: int) -> int:
        """Updates begun and ended when `count` micro-batches are done."""
        return self.updates if count == self.micro_batches else count // self.accumulative_counts

    def held_after(self, count: int) -> int:
        """Micro-batches that wait for the rest of their update when `count` are done."""
        return 0 if self.ends_update(count) else count % self.accumulative_counts

    def data_after(self, count: int) -> int:
        """Micro-batches of data that were passed when `count` are done: counted over all epochs."""
        return count + self.start.shift

    def epoch_of(self, count: int) -> int:
        """The epoch that the micro-batch belongs to, from 1."""
        return -(-self.data_after(count) // self.per_epoch)

    def place_of(self, count: int) -> str:
        """Name the epoch and the update that the micro-batch belongs to."""
        return f"in epoch {self.epoch_of(count)}, update {-(-count // self.accumulative_counts)}"

    def ends_update(self, count: int) -> bool:
        """Whether the micro-batch is the last of its window."""
        return count % self.accumulative_counts == 0 or count == self.micro_batches

    def logs_after(self, count: int) -> bool:
        """Whether a training row is due: every `log_every` updates, and at the end."""
        return self.ends_update(count) and self.logs_update(self.update_after(count))

    def logs_update(self, update: int) -> bool:
        """Whether a training row is due with this update."""
        return update % self.log_every == 0 or update == self.updates

    def evaluates_after(self, count: int) -> bool:
        """Whether an evaluation is due: every `eval_every` updates or `eval_epochs` epochs, and at the end."""
        if count in (0, self.micro_batches):
            return count > 0
        if self.eval_every is None:
            return self._ends_epoch(count) and self.epoch_of(count) % self.eval_epochs == 0
        return self.ends_update(count) and self.update_after(count) % self.eval_every == 0

    def saves_after(self, count: int) -> bool:
        """Whether a checkpoint is due: every `checkpoint_every` updates, after each epoch, before evaluations."""
        if not self.between_updates:
            return self._save_is_due(count)
        # What is due inside the next update is done before it: the weights are the same until its end.
        following = range(count, min(count + self.accumulative_counts, self.micro_batches))
        return self.ends_update(count) and any(map(self._save_is_due, following or [count]))

    def _save_is_due(self, count: int) -> bool:
        every = self.checkpoint_every
        due = every is not None and self.ends_update(count) and self.update_after(count) % every == 0
        return due or self._ends_epoch(count) or self.evaluates_after(count)

    def _ends_epoch(self, count: int) -> bool:
        return self.data_after(count) % self.per_epoch == 0


def make_plan(
    per_epoch: int,
    optim_wrapper: OptimWrapper | OptimWrapperDict,
    *,
    epochs: int,
    max_updates: int | None,
    log_every: int,
    eval_every: int | None,
    checkpoint_every: int | None = None,
    start: Position = Position(),
    between_updates: bool = False,
    eval_epochs: int = 1,
) -> Plan:
    """Plan a run of `epochs` epochs of `per_epoch` micro-batches, or of `max_updates` updates.

    Raises:
        ConfigError: a number is below 1, or the run is already past this plan's end.
    """
    numbers = {
        "epochs": epochs,
        "max_updates": max_updates,
        "log_every": log_every,
        "eval_every": eval_every,
        "eval_epochs": eval_epochs,
        "checkpoint.every": checkpoint_every,
    }
    for key, value in numbers.items():
        if value is not None and value < 1:
            raise ConfigError(f"{key}={value}: it must be 1 or more.")
    counts = accumulative_counts(optim_wrapper)
    micro_batches = epochs * per_epoch - start.shift if max_updates is None else max_updates * counts
    when = (log_every, eval_every, checkpoint_every)
    plan = Plan(micro_batches, per_epoch, counts, *when, start, between_updates, eval_epochs)
    if start.micro_batches > micro_batches:
        key = f"epochs={epochs}" if max_updates is None else f"max_updates={max_updates}"
        raise ConfigError(
            f"{key}: the run to go on with is already in epoch {plan.epoch_of(start.micro_batches)}, after "
            f"update {start.micro_batches // counts}. Give a larger number."
        )
    return plan


def accumulative_counts(optim_wrapper: OptimWrapper | OptimWrapperDict) -> int:
    """Return the micro-batches to an update; of several wrappers, the most."""
    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    return max(wrapper.accumulative_counts for wrapper in wrappers)
