"""Early stopping: end a run that no longer gets better."""

import math
from collections.abc import Mapping
from typing import Any

from optwrap.hooks.given import Run


class EarlyStopping:
    """Stops the run after `patience` evaluations in a row that bettered `metric` by no more than `min_delta`.

    Args:
        metric: one of the evaluation on val, `accuracy` or `val/accuracy`; None: that of `objective`.
        patience: evaluations, 1 or more.
        min_delta: what a value must be better by to count; 0: better at all.
        better: min or max; None: as the metric says, and min for a loss.

    A NaN is no improvement. Source: Prechelt, Early Stopping - But When?, 1998.
    """

    def __init__(
        self, metric: str | None = None, patience: int = 5, min_delta: float = 0.0, better: str | None = None
    ) -> None:
        if patience < 1:
            raise ValueError(f"patience must be 1 or more, not {patience}")
        if not min_delta >= 0:
            raise ValueError(f"min_delta must be 0 or more, not {min_delta}")
        if better not in (None, "min", "max"):
            raise ValueError(f"better must be min or max, or null for what the metric says, not {better}")
        self._metric, self._patience, self._min_delta, self._better = metric, patience, min_delta, better
        self.best: float | None = None
        self.waited = 0

    def start(self, run: Run) -> None:
        """Find the metric and which way it is better."""
        self._name, self._sign = run.followed(self._metric, self._better)

    def after_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Count the evaluation; stop where patience is at its end."""
        value = self._sign * metrics[self._name]
        if not math.isnan(value) and (self.best is None or value > self._sign * self.best + self._min_delta):
            self.best, self.waited = metrics[self._name], 0
            return
        self.waited += 1
        if self.waited >= self._patience:
            best = "a number" if self.best is None else f"better than {self.best:.6g}"
            by = f" by more than {self._min_delta:g}" * (self._min_delta > 0 and self.best is not None)
            times = f"{self.waited} evaluation{'s' * (self.waited > 1)}"
            run.stop(f"val/{self._name} has not been {best}{by} for {times}")

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the evaluations since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on waiting."""
        self.best, self.waited = state["best"], int(state["waited"])
