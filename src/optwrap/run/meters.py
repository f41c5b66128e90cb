"""Averages that stay on the device until a row of metrics is due."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper
from optwrap.run.plan import Plan


class TrainMeter:
    """Means of training metrics since the last row; `add` never waits for the device, `read` does."""

    def __init__(self) -> None:
        self._names: Sequence[str] = ()
        self.start()

    def start(self) -> None:
        """Begin a new row."""
        self._sum: Tensor | None = None
        self._first_bad: Tensor | None = None  # micro-batch of the first loss that is NaN or inf, else 0
        self._micro_batches = 0
        self._samples = 0
        self._paused = 0.0
        self._since = self._last = time.monotonic()

    def pause(self) -> None:
        """Leave the time since the last `add` (an evaluation) out of the throughput."""
        self._paused += time.monotonic() - self._last
        self._last = time.monotonic()

    def add(self, stats: Mapping[str, Tensor], samples: int, count: int) -> None:
        """Take in the metrics of micro-batch `count`: scalar tensors; `loss` is watched for NaN and inf."""
        self._names = list(stats)
        values = torch.stack([value.detach().float() for value in stats.values()])
        self._sum = values if self._sum is None else self._sum + values
        if "loss" in stats:
            bad = (~torch.isfinite(stats["loss"].detach())) * count
            self._first_bad = (
                bad if self._first_bad is None else torch.where(self._first_bad > 0, self._first_bad, bad)
            )
        self._micro_batches += 1
        self._samples += samples
        self._last = time.monotonic()

    def read(self, plan: Plan) -> tuple[dict[str, float], float]:
        """Return the means and the samples a second since `start`; raises as `check` does."""
        assert self._sum is not None
        self.check(plan)
        means = dict(zip(self._names, (self._sum / self._micro_batches).tolist(), strict=True))
        seconds = time.monotonic() - self._since - self._paused
        return means, self._samples / max(seconds, 1e-9)

    def check(self, plan: Plan) -> None:
        """Wait for the device and look for a loss that was NaN or inf since `start`.

        Raises:
            ConfigError: there was one; the message names the first update and what to try.
        """
        bad = 0 if self._first_bad is None else int(self._first_bad.item())
        if bad:
            update = -(-bad // plan.accumulative_counts)
            raise ConfigError(
                f"the loss is NaN or inf since epoch {plan.epoch_of(bad)}, update {update} (micro-batch {bad}). "
                "Try a lower optim_wrapper.optimizer.lr, clipping (add clip to the optim_wrapper list), a "
                "schedule with warm-up (schedule=warmup_cosine) or, with float16, amp_bf16 instead of amp."
            )


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
