"""One of MMEngine's parameter schedulers: what it moves, how, and from where to where."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SUFFIXES = {"LR": "lr", "Momentum": "momentum", "WeightDecay": "weight_decay", "ParamScheduler": ""}
_COUNTED = ("begin", "end", "T_max", "total_steps", "step_size", "milestones", "periods")
NO_END = 10**9


@dataclass(frozen=True)
class Scheduler:
    """One of the list: what it moves, how, and from where to where.

    Attributes:
        given: its config, and `used`, what of it was asked for.
        by_epoch: its numbers are epochs; it is a `staircase` where it steps once in each.
        stands: it never steps, since it does so by epoch in a run of iterations.
        run: the length of the run as it counts; None where the run counts otherwise.
        end: None where it goes on to the end of the run.
        steps: from `begin` to its own end, which may lie beyond that of the run; None where nobody says.
        notes: what could not be carried over.
    """

    name: str
    kind: str
    hyperparameter: str
    given: Mapping[str, Any]
    by_epoch: bool
    staircase: bool
    stands: bool
    run: int | None
    begin: int
    end: int | None
    steps: int | None
    used: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def place(self, number: int) -> int | str:
        """Write a place or a length as its part has it."""
        return epochs(number) if self.by_epoch and not self.staircase else number

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument."""
        self.used.add(name)
        return self.given.get(name, default)

    def chosen(self, *names: str) -> dict[str, Any]:
        """Return the arguments of these names that are given."""
        return {name: self.get(name) for name in names if self.get(name) is not None}

    def say(self, note: str) -> None:
        """Note what is not carried over."""
        self.notes.append(f"{self.name}: {note}")


def epochs(number: int) -> str:
    """Write a length in epochs, as parts have it."""
    return f"{number} epoch{'s' * (number != 1)}"


def in_updates(cfg: Mapping[str, Any], accumulative_counts: int) -> dict[str, Any]:
    """Return the config of a scheduler that counts micro-batches with its numbers in updates, rounded."""

    def scaled(number: Any) -> Any:
        if isinstance(number, list | tuple):
            return [scaled(each) for each in number]
        return max(round(number / accumulative_counts), 1) if number else number

    return {name: scaled(value) if name in _COUNTED else value for name, value in cfg.items()}


def read_scheduler(cfg: Mapping[str, Any], by_epoch: bool, length: int) -> Scheduler:
    """Read the config of one scheduler of a run of `length` epochs or updates."""
    given = cfg.get("type")
    name = getattr(given, "__name__", str(given).rpartition(".")[2])
    suffix = next((each for each in _SUFFIXES if name.endswith(each)), "")
    kind = "Poly" if name == "PolyLRRatio" else name.removesuffix(suffix)
    its_epochs = bool(cfg.get("by_epoch", True))
    run = length if its_epochs == by_epoch else None
    of_the_run = run or (1 if its_epochs else NO_END)  # a run of iterations is one epoch
    begin, end = cfg.get("begin", 0), cfg.get("end", of_the_run)
    staircase = its_epochs and not cfg.get("convert_to_iter_based", False) and kind != "ReduceOnPlateau"
    stands = staircase and run is None
    return Scheduler(
        name,
        kind,
        _SUFFIXES.get(suffix) or cfg.get("param_name", "lr"),
        cfg,
        by_epoch=its_epochs,
        staircase=staircase and not stands,
        stands=stands,
        run=run,
        begin=begin,
        end=None if stands or end >= (run or NO_END) else end,
        steps=None if end >= NO_END else end - begin,
    )
