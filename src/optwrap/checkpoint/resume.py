"""Go on with a run: from which checkpoint, at which place of its plan, and what has changed since."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf

from optwrap.checkpoint.files import Checkpoints
from optwrap.checkpoint.model_state import load_model
from optwrap.checkpoint.state import FORMAT, RunParts
from optwrap.config.resuming import AUTO
from optwrap.errors import ConfigError
from optwrap.hooks.hook import switched_on
from optwrap.plan.calls import begin
from optwrap.plan.order import Order
from optwrap.plan.plan import Plan, Position
from optwrap.plan.random_state import set_random_state
from optwrap.plan.ranks import ALONE, Ranks
from optwrap.sweep.records import read_result

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

logger = logging.getLogger(__name__)

_MISFITS = (LookupError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError, AssertionError)
"""What torch and its optimizers raise at a state that is not theirs; found by tests/optwrap/test_fuzz.py."""
_CPU = torch.device("cpu")

_PARTS = ("model", "optim_wrapper", "counters", "schedule", "recorder", "random", "config")
_NUMBERS = (
    *("micro_batches", "shift", "held", "update", "updates_planned"),
    *("per_epoch", "batch_size", "accumulative_counts"),
)


@dataclass(frozen=True)
class Saved:
    """A checkpoint to go on from."""

    path: Path
    state: Mapping[str, Any]

    rank: int = 0

    @property
    def random(self) -> Mapping[str, Any] | None:
        """The state of this rank's random number generators; None where the run had fewer ranks."""
        return self.state["random"] if self.rank == 0 else self._of_rank("random")

    @property
    def records(self) -> Mapping[str, Any]:
        """What this rank's recorder had; of a rank that is new, what rank 0's had."""
        own = None if self.rank == 0 else self._of_rank("meter")
        return self.state["recorder"] if own is None else {**self.state["recorder"], "meter": own}

    def _of_rank(self, name: str) -> Any:
        others = self.state.get("other_ranks", [])
        return others[self.rank - 1][name] if self.rank <= len(others) else None


def find_saved(
    resume: str | None,
    checkpoints: Checkpoints,
    device: torch.device,
    ranks: Ranks = ALONE,
    like: "Mapping[str, DTensor] | None" = None,
) -> Saved | None:
    """Return the newest checkpoint that is whole, for `resume` 'auto' or a run's folder; None: start anew.

    All ranks take the same; `like` is for `checkpoint.load`.

    Raises:
        ConfigError: each checkpoint is damaged, there is none in the folder named, or it is no run's state.
    """
    if resume is None:
        return None
    found = checkpoints.newest(device, ranks, like)
    if found is None:
        if resume != AUTO:
            raise ConfigError(f"resume={resume}: there is no checkpoint in {checkpoints.folder}.")
        return None
    path, state = found
    numbers = state.get("progress")
    whole = isinstance(numbers, dict) and _is_progress(numbers)
    version = state.get("format")
    same = type(version) is int and version == FORMAT
    if not same or not whole or not all(isinstance(state.get(name), dict) for name in _PARTS):
        raise ConfigError(f"{path}: this checkpoint holds no run to go on with, or one of another version.")
    return Saved(path, state, ranks.rank)


def _is_progress(numbers: Mapping[str, Any]) -> bool:
    """Whether these are numbers that one plan gives: a wrong one would place the run elsewhere."""
    if any(type(numbers.get(name)) is not int for name in _NUMBERS):
        return False
    count, length, update, held = (
        numbers[name] for name in ("micro_batches", "accumulative_counts", "update", "held")
    )
    if min(count, numbers["per_epoch"] - 1, numbers["batch_size"] - 1, length - 1) < 0:
        return False
    begun = count // length
    return update in (begun, -(-count // length)) and held in (0, count % length)


def start_of(saved: Saved | None, order: Order, accumulative_counts: int) -> Position:
    """Return where a run with these epochs and updates begins: at 0, or where `saved` stood.

    Under another batch size or accumulation than before, updates go on from those that were made, and the data
    from the epoch and the sample that it had come to, rounded down to whole micro-batches.
    """
    if saved is None:
        return Position()
    progress = saved.state["progress"]
    before = progress["per_epoch"], progress["batch_size"], progress["accumulative_counts"]
    count, update = progress["micro_batches"], progress["update"]
    # A run's last update may be made of fewer micro-batches; then more epochs begin a new count too.
    whole = update == count // accumulative_counts
    if before == (order.per_epoch, order.batch_size, accumulative_counts) and whole:
        return Position(count, progress["shift"])
    epoch, batch = divmod(count + progress["shift"] - progress["held"], progress["per_epoch"])
    data = epoch * order.per_epoch + min(batch * progress["batch_size"] // order.batch_size, order.per_epoch)
    return Position(update * accumulative_counts, data - update * accumulative_counts)


def restore(parts: RunParts, saved: Saved, plan: Plan, config: Mapping[str, Any]) -> None:
    """Put every part of the run where it stood, and say what has changed since.

    Raises:
        ConfigError: the model, or the wrappers, are others than those of the checkpoint.
    """
    load_model(parts.model, saved.state, saved.path)
    count = plan.start.micro_batches
    try:
        anew = parts.load_optimizers(saved.state)
        counted = {name: each["micro_batches"] for name, each in saved.state["counters"].items()}
        begin(parts.optim_wrapper, parts.model, plan.micro_batches, count, counted)
        changes = list(changed(saved.state["config"], config))
        _restore_schedule(parts, saved, config)
        parts.load_task(saved.state)
        if saved.random is not None:  # the run sets it again when it starts; here, to see that it fits
            set_random_state(saved.random, _CPU)
    except _MISFITS as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise ConfigError(f"{saved.path}: the checkpoint does not fit this run. {reason}") from error
    logger.info(
        "Going on from %s: epoch %d, update %d of %d.",
        *(saved.path, max(1, plan.epoch_of(count)), plan.update_after(count), plan.updates),
    )
    if changes:
        logger.info("Changed since that checkpoint:\n  %s", "\n  ".join(changes))
    for name in anew:
        which = f"The optimizer of {name.rstrip('.')}" if name else "The optimizer"
        logger.warning("%s is another than before: its state starts anew.", which)


def finished_value(
    folder: Path,
    saved: Saved | None,
    plan: Plan,
    objective: str,
    ranks: Ranks = ALONE,
    hooks: Mapping[str, Any] | None = None,
) -> float | None:
    """Return the objective's value where the run has nothing left to do, after saying so; else None.

    A run that a hook has stopped has nothing left to do under the same `hooks`.
    """
    if saved is None:
        return None
    result = ranks.first(read_result(folder) if ranks.is_first else {})
    at_its_end = plan.start.micro_batches >= plan.micro_batches
    stopped = None if at_its_end or not same_hooks(saved, hooks) else result.get("stopped")
    # A longer run that was killed in its last evaluation still has the result of the shorter one.
    is_its = result.get("micro_batches") == saved.state["progress"]["micro_batches"]
    value = result.get(objective) if is_its and (at_its_end or stopped) else None
    if not isinstance(value, int | float):
        return None  # it was killed in its last evaluation: that is still to do
    logger.info("%s: this run is finished (%s %.6g). %s", folder, objective, value, _how_to_go_on(stopped))
    return float(value)


def _how_to_go_on(stopped: str | None) -> str:
    if stopped is None:
        return "Give more epochs to go on."
    return f"It was stopped by {stopped}. Give that hook other arguments to go on, or leave it out."


def same_hooks(saved: Saved, nodes: Mapping[str, Any] | None) -> bool:
    """Whether the run had the hooks of these `nodes` of a config at the checkpoint, with the same arguments."""
    return switched_on(saved.state["config"].get("hooks")) == switched_on(nodes)


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as plain values, which a checkpoint can hold, less `resume`."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    return {key: value for key, value in plain.items() if key != "resume"}


def changed(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield a line for each key whose value is another.

    >>> list(changed({"epochs": 2, "model": {"width": 8}}, {"epochs": 3, "model": {"width": 8, "depth": 1}}))
    ['epochs: 2 -> 3', 'model.depth: (none) -> 1']
    """
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key, "(none)"), now.get(key, "(none)")
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changed(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} -> {new}"


def _restore_schedule(parts: RunParts, saved: Saved, config: Mapping[str, Any]) -> None:
    """Go on at the place of the saved schedule, or where its updates put another one."""
    before = saved.state["config"]
    if before.get("schedule") != config.get("schedule"):
        parts.advance_schedule()
        return
    if before.get("optim_wrapper") == config.get("optim_wrapper"):
        parts.load_hyperparameters(saved.state)
    parts.load_schedule(saved.state)
