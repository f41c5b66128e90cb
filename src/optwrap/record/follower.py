"""What a rank above 0 does where rank 0 records."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from optwrap.optim import OptimWrapper, OptimWrapperDict
from optwrap.optim.wrapper_dict import named_wrappers
from optwrap.plan.objective import Objective
from optwrap.plan.plan import Plan
from optwrap.plan.ranks import Ranks
from optwrap.record.meters import GradNorm, TrainMeter
from optwrap.record.recorder import Recorder
from optwrap.record.result import check_some_update


class Follower:
    """Has the methods of a Recorder and takes part in its means, but writes nothing: a context manager.

    `resumed` is what the Recorder's `state_dict` returned, with this rank's own meter.
    """

    def __init__(
        self,
        plan: Plan,
        optim_wrapper: OptimWrapper | OptimWrapperDict,
        ranks: Ranks,
        resumed: Mapping[str, Any] | None = None,
    ) -> None:
        self._plan, self._ranks = plan, ranks
        self._wrappers = named_wrappers(optim_wrapper)
        self._grad_norms = [GradNorm(wrapper, plan.logs_update) for wrapper in self._wrappers.values()]
        self._meter = TrainMeter()
        self._metrics: dict[str, float] = {}
        self._count = plan.start.micro_batches
        if resumed:
            self._meter.load_state_dict(resumed["meter"])
            self._metrics = dict(resumed["metrics"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for grad_norm in self._grad_norms:
            grad_norm.close()

    def train_step(self, stats: Mapping[str, Tensor], samples: int, count: int) -> None:
        """Take in one micro-batch; where a training row is due, give this rank's share of its means."""
        self._count = count
        self._meter.add(stats, samples)
        if self._plan.logs_after(count):
            self._ranks.mean(self._meter.read()[0])
            self._meter.start()

    def evaluation(self, split: str, metrics: Mapping[str, float], count: int) -> None:
        """Keep the metrics, for the objective."""
        self._metrics |= {f"{split}/{name}": value for name, value in metrics.items()}

    def finish(self, seed: int, objective: Objective) -> float:
        """Return the objective's value; raises as Recorder.finish."""
        check_some_update(self._wrappers)
        return self._metrics[objective.name]

    def where(self) -> str:
        """Name the update that is being made."""
        return self._plan.place_of(self._count + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return what of this rank goes into a checkpoint."""
        return {"meter": self._meter.state_dict()}


def record(
    folder: Path,
    plan: Plan,
    optim_wrapper: OptimWrapper | OptimWrapperDict,
    logger: Mapping[str, bool],
    resumed: Mapping[str, Any] | None,
    ranks: Ranks,
) -> Recorder | Follower:
    """Return what records this rank's part of the run; `logger` holds the switches of Recorder."""
    if not ranks.is_first:
        return Follower(plan, optim_wrapper, ranks, resumed)
    return Recorder(
        folder,
        plan,
        optim_wrapper,
        train_rows=logger["train_rows"],
        tensorboard=logger["tensorboard"],
        resumed=resumed,
        ranks=ranks,
    )
