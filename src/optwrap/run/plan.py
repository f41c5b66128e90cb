"""How long a run is, in micro-batches and updates, and when it logs and evaluates."""

from dataclasses import dataclass

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper, OptimWrapperDict


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

    @property
    def updates(self) -> int:
        """Updates of the whole run, a last shorter window included."""
        return -(-self.micro_batches // self.accumulative_counts)

    def update_after(self, count: int) -> int:
        """Updates begun and ended when `count` micro-batches are done."""
        return self.updates if count == self.micro_batches else count // self.accumulative_counts

    def epoch_of(self, count: int) -> int:
        """The epoch that the micro-batch belongs to, from 1."""
        return -(-count // self.per_epoch)

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
        """Whether an evaluation is due: every `eval_every` updates, or after each epoch, and at the end."""
        if count == self.micro_batches:
            return True
        if self.eval_every is None:
            return count % self.per_epoch == 0
        return self.ends_update(count) and self.update_after(count) % self.eval_every == 0


def make_plan(
    per_epoch: int,
    optim_wrapper: OptimWrapper | OptimWrapperDict,
    *,
    epochs: int,
    max_updates: int | None,
    log_every: int,
    eval_every: int | None,
) -> Plan:
    """Plan a run of `epochs` epochs of `per_epoch` micro-batches, or of `max_updates` updates.

    Raises:
        ConfigError: a number is below 1.
    """
    numbers = {"epochs": epochs, "max_updates": max_updates, "log_every": log_every, "eval_every": eval_every}
    for key, value in numbers.items():
        if value is not None and value < 1:
            raise ConfigError(f"{key}={value}: it must be 1 or more.")
    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    counts = max(wrapper.accumulative_counts for wrapper in wrappers)
    micro_batches = epochs * per_epoch if max_updates is None else max_updates * counts
    return Plan(micro_batches, per_epoch, counts, log_every, eval_every)
