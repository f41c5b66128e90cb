"""Hooks that tests put into runs."""

from typing import Any

from optwrap.hooks import Run

CALLS: list[tuple[Any, ...]] = []


class Noting:
    """Notes each call in `CALLS`: method, micro-batches done, update."""

    def start(self, run: Run) -> None:
        CALLS.append(("start", run.count, run.update))

    def before_update(self, run: Run) -> None:
        CALLS.append(("before_update", run.count, run.update))

    def after_update(self, run: Run) -> None:
        CALLS.append(("after_update", run.count, run.update))

    def before_evaluation(self, run: Run) -> None:
        CALLS.append(("before_evaluation", run.count, run.update))

    def after_evaluation(self, run: Run, metrics: dict[str, float]) -> None:
        CALLS.append(("after_evaluation", run.count, run.update, sorted(metrics)))

    def end(self, run: Run) -> None:
        CALLS.append(("end", run.count, run.update))


class Counting:
    """Counts updates and records them; stops the run after `until` of them, on one rank or on all."""

    def __init__(self, until: int | None = None, rank: int | None = None) -> None:
        self.until, self.rank, self.seen = until, rank, 0

    def after_update(self, run: Run) -> None:
        self.seen += 1
        run.record("seen", self.seen)
        if self.seen == self.until and self.rank in (None, run.ranks.rank):
            run.stop(f"{self.seen} updates seen")

    def end(self, run: Run) -> None:
        run.result("seen", self.seen)

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seen = state["seen"]


class StoppingAtOnce:
    """Stops the run before its first update."""

    def start(self, run: Run) -> None:
        run.stop("nothing to do")


class OnlySaving:
    """Can save, and not load."""

    def state_dict(self) -> dict[str, int]:
        return {}


class Misspelt:
    """Has a method that nothing calls."""

    def after_updates(self, run: Run) -> None: ...


class Foreign:
    """Has a method as other libraries call it."""

    def on_train_end(self, run: Run) -> None: ...


class TooFew:
    """Forgets the metrics."""

    def after_evaluation(self, run: Run) -> None: ...


class Nothing:
    """Is no hook."""

    def helper(self) -> None: ...
