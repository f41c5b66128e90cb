"""Averages that stay on the device until a row of metrics is due."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper


def unit_of(task: Any) -> str:
    """Return what a task counts its work in: its attribute `unit`, else samples.

    Raises:
        ConfigError: it is no name of a column.
    """
    unit = getattr(task, "unit", "samples")
    if not isinstance(unit, str) or not unit.isidentifier():
        raise ConfigError(f"task: {type(task).__name__}.unit is {unit!r}. It is a word such as images or tokens.")
    return unit


class TrainMeter:
    """Means of training metrics since the last row, and units of work a second.

    A metric under the `unit`'s own name is the units of its micro-batch and is summed; without one, samples are
    counted. `add` never waits for the device, `read` does.
    """

    def __init__(self, unit: str = "samples") -> None:
        self._unit = unit
        self._names: list[str] = []
        self.start()

    def start(self) -> None:
        """Begin a new row."""
        self._sum: Tensor | None = None
        self._micro_batches = 0
        self._samples = 0
        self._paused = 0.0
        self._since = self._last = time.monotonic()

    def pause(self) -> None:
        """Leave the time since the last `add` (an evaluation) out of the throughput."""
        self._paused += time.monotonic() - self._last
        self._last = time.monotonic()

    def add(self, stats: Mapping[str, Tensor], samples: int) -> None:
        """Take in the metrics of a micro-batch: scalar tensors."""
        self._names = list(stats)
        values = torch.stack([value.detach().float() for value in stats.values()])
        self._sum = values if self._sum is None else self._sum.to(values.device) + values
        self._micro_batches += 1
        self._samples += samples
        self._last = time.monotonic()

    def read(self) -> tuple[dict[str, float], float]:
        """Return the means over micro-batches, each counting once, and the units a second since `start`."""
        assert self._sum is not None
        sums = dict(zip(self._names, self._sum.tolist(), strict=True))
        units = sums.pop(self._unit, self._samples)
        means = {name: total / self._micro_batches for name, total in sums.items()}
        return means, units / max(self._seconds(), 1e-9)

    def state_dict(self) -> dict[str, Any]:
        """Return what the row to come is made of so far."""
        return {
            "names": self._names,
            "sum": self._sum,
            "micro_batches": self._micro_batches,
            "samples": self._samples,
            "seconds": self._seconds(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with a row."""
        self.start()
        self._names, self._sum = list(state["names"]), state["sum"]
        self._micro_batches, self._samples = state["micro_batches"], state["samples"]
        self._since -= state["seconds"]

    def _seconds(self) -> float:
        return time.monotonic() - self._since - self._paused


class GradNorm:
    """The total gradient norm at the updates that `is_due` names (counted from 1), which the wrapper measures.

    It is that before clipping by norm, but after clipping by value.
    """

    def __init__(self, wrapper: OptimWrapper, is_due: Callable[[int], bool]) -> None:
        self._wrapper = wrapper
        wrapper.norm_is_due = is_due

    @property
    def value(self) -> Tensor | None:
        """The latest norm, a scalar tensor on the device; None before the first."""
        return self._wrapper.last_grad_norm

    def close(self) -> None:
        """Let the wrapper measure no more than it needs."""
        self._wrapper.norm_is_due = None


def peak_memory_mib(device: torch.device) -> int | None:
    """Return the most memory held at one time: the device's on CUDA, else the process's since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20
