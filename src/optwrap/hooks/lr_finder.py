"""The learning rate range test: how the loss goes as the learning rate grows from update to update."""

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from optwrap.errors import ConfigError, did_you_mean
from optwrap.hooks.given import Run
from optwrap.hooks.lr_curve import Point, draw, suggestion, write
from optwrap.hooks.preserved import preserved
from optwrap.optim import HybridOptimizer, OptimWrapper, OptimWrapperDict
from optwrap.optim.assignment.hyperparameters import base_group

logger = logging.getLogger(__name__)

_SMOOTHING = 0.9


class LrFinder:
    """Before a run's first update, trains it for `updates` updates whose lr grows exponentially, and undoes that.

    Leaves lr_finder.csv and lr_finder.png, and says which lr to try: where the smoothed loss falls steepest. The
    curve ends where the loss is not finite, or smoothed is over 4 times its least. Param groups keep their
    proportions to the base lr.

    Args:
        lowest, highest: the range of the base lr.
        updates: how many of them.
        go_on: train then, at the lr that the config has; else the run stops.
        wrapper: which of several wrappers; the others train at their own lr.
        loss: the number of `train_step` that is drawn.

    Source: Smith, Cyclical Learning Rates for Training Neural Networks, 2017, section 3.3.
    """

    def __init__(
        self,
        lowest: float = 1e-6,
        highest: float = 1.0,
        updates: int = 100,
        go_on: bool = False,
        wrapper: str | None = None,
        loss: str = "loss",
    ) -> None:
        if not 0 < lowest < highest:
            raise ValueError(f"lowest must be above 0 and below highest={highest}, not {lowest}")
        if updates < 5:
            raise ValueError(f"updates must be 5 or more, not {updates}")
        self._lowest, self._highest, self._updates = lowest, highest, updates
        self._go_on, self._name, self._loss = go_on, wrapper, loss
        self.done = False

    def start(self, run: Run) -> None:
        """Find it, unless the run has been here before."""
        wrapper = self._chosen(run)
        if self.done or run.count >= run.plan.micro_batches:
            return
        self.done = True
        points = self._sweep(run, wrapper)
        if run.ranks.is_first:
            self._show(run, wrapper, points)
        if not self._go_on:
            run.stop("the sweep is done; the run goes on without it, or with go_on=true")

    def state_dict(self) -> dict[str, bool]:
        """Return whether it is done."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, bool]) -> None:
        """Remember it."""
        self.done = bool(state["done"])

    def _chosen(self, run: Run) -> OptimWrapper:
        wrappers = run.optim_wrapper
        if not isinstance(wrappers, OptimWrapperDict):
            if self._name is not None:
                raise ConfigError(
                    f"hooks.{run.key}.wrapper={self._name}: this run has one wrapper. Leave it null."
                )
            return wrappers
        if self._name is None or self._name not in wrappers:
            raise ConfigError(
                f"hooks.{run.key}.wrapper={self._name or 'null'}: choose one of {', '.join(wrappers)}."
            )
        return wrappers[self._name]

    def _sweep(self, run: Run, wrapper: OptimWrapper) -> list[Point]:
        counts = run.plan.accumulative_counts
        base, own = _base_lr(wrapper)
        points: list[Point] = []
        average = 0.0
        with preserved(run, self._updates * counts):
            batches = run.batches(run.count, run.count + self._updates * counts)
            for step, lr in enumerate(self.lrs()):
                _set_lr(wrapper, [lr * each / base for each in own])
                loss = run.ranks.mean({"loss": self._update(run, batches, counts)})["loss"]
                if not math.isfinite(loss):
                    break
                average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
                smooth = average / (1 - _SMOOTHING ** (step + 1))
                points.append((lr, loss, smooth))
                if smooth > 4 * min(point[2] for point in points):
                    break
        return points

    def lrs(self) -> list[float]:
        """Return the learning rates, one an update.

        >>> LrFinder(lowest=0.01, highest=1.0, updates=5).lrs()[::2]
        [0.01, 0.1, 1.0]
        """
        growth = self._highest / self._lowest
        return [self._lowest * growth ** (step / (self._updates - 1)) for step in range(self._updates)]

    def _update(self, run: Run, batches: Iterator[Any], micro_batches: int) -> float:
        losses: list[Tensor] = []
        for _ in range(micro_batches):
            stats = run.train_step(next(batches))
            if self._loss not in stats:
                raise ConfigError(
                    f"hooks.{run.key}.loss={self._loss}: train_step gives no such number."
                    f"{did_you_mean(self._loss, stats)} It gives {', '.join(stats)}."
                )
            losses.append(stats[self._loss].detach())
        return sum(loss.item() for loss in losses) / len(losses)

    def _show(self, run: Run, wrapper: OptimWrapper, points: Sequence[Point]) -> None:
        write(run.folder / "lr_finder.csv", points)
        lr = suggestion(points)
        draw(run.folder / "lr_finder.png", points, lr)
        if lr is None:
            logger.warning(
                "lr_finder: the loss never falls between lr %.3g and %.3g: see lr_finder.png, try another range.",
                *(self._lowest, self._highest),
            )
            return
        base, _ = _base_lr(wrapper)
        place = "optim_wrapper." + f"{self._name}." * (self._name is not None)
        keys = {f"{place}optimizer.lr": lr}
        if isinstance(wrapper.optimizer, HybridOptimizer):
            hidden, _ = _base_lr_of(wrapper.optimizer.optimizers["hidden"])
            keys[f"{place}hidden_optimizer.lr"] = lr * hidden / base
        logger.info("lr_finder: Try: %s", " ".join(f"{key}={value:.2g}" for key, value in keys.items()))


def _base_lr(wrapper: OptimWrapper) -> tuple[float, list[float]]:
    """Return the base lr of the wrapper's optimizer, and the own lr of each param group: before any schedule."""
    optimizer = wrapper.optimizer
    base, _ = _base_lr_of(optimizer.optimizers["rest"] if isinstance(optimizer, HybridOptimizer) else optimizer)
    return base, [_own_lr(group) for group in optimizer.param_groups]


def _base_lr_of(optimizer: Any) -> tuple[float, list[float]]:
    own = [_own_lr(group) for group in optimizer.param_groups]
    return own[base_group(optimizer.param_groups, optimizer.defaults.get("lr"))] or 1.0, own


def _own_lr(group: dict[str, Any]) -> float:
    return float(group.get("initial_lr", group["lr"]))


def _set_lr(wrapper: OptimWrapper, lrs: Sequence[float]) -> None:
    for group, lr in zip(wrapper.param_groups, lrs, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
