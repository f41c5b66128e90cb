"""How large a model is, how much a micro-batch computes, and how fast that goes."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from optwrap.hooks.given import Run
from optwrap.hooks.preserved import preserved
from optwrap.optim.constructors.hybrid import optimizers_of
from optwrap.optim.wrapper_dict import named_wrappers

logger = logging.getLogger(__name__)

# FLOP/s of dense matrices from the makers' data sheets: float16 and bfloat16, then TF32.
_PEAKS = {
    "H200": (989e12, 494e12),
    "H100 PCIe": (756e12, 378e12),
    "H100": (989e12, 494e12),
    "A100": (312e12, 156e12),
    "L40S": (362e12, 183e12),
    "L4": (121e12, 60e12),
    "A10": (125e12, 62.5e12),
}


class ModelSummary:
    """Counts parameters, and the floating-point operations of a micro-batch by torch's FlopCounterMode.

    They are in the log and in `result.json`; FLOP/s, and the share of the device's peak where that is known, in
    training rows too. Counted are the matrix products and convolutions of `train_step`, forward and backward, over
    all ranks, not the optimizer's: on one micro-batch before the run's first, which is undone, so that the run is
    the same to the bit.

    Args:
        peak: FLOP/s of one device, for the share; None: as its data sheet says, where it is known.
    """

    def __init__(self, peak: float | None = None) -> None:
        if peak is not None and not peak > 0:
            raise ValueError(f"peak must be above 0, not {peak}")
        self._peak = peak
        self.flops = 0
        self._micro_batches = 0  # since `_since`
        self._since = self._paused = self._pause = 0.0
        self._all = [0.0, 0.0]  # micro-batches and seconds of all rows

    def start(self, run: Run) -> None:
        """Count."""
        params = list(run.model.parameters())
        numbers = {
            "parameters": sum(param.numel() for param in params),
            "trainable": sum(param.numel() for param in params if param.requires_grad),
        }
        if run.count < run.plan.micro_batches:
            self.flops = numbers["flops"] = _flops(run) * run.ranks.size
        for name, value in numbers.items():
            run.result(name, value)
        self._peak = self._peak or _peak(run)
        logger.info(
            "%s: %s parameters, %s trainable; %.4g FLOP a micro-batch of %d samples, forward and backward.",
            *(run.key, f"{numbers['parameters']:,}", f"{numbers['trainable']:,}", self.flops, run.batch_size),
        )
        self._begin(run)

    def after_update(self, run: Run) -> None:
        """Give a training row the FLOP/s since the last one."""
        if not run.plan.logs_update(run.update):
            return
        micro_batches, seconds = run.count - self._micro_batches, time.monotonic() - self._since - self._paused
        self._all = [self._all[0] + micro_batches, self._all[1] + seconds]
        for name, value in self._speed(run, micro_batches, seconds).items():
            run.record(name, value)
        self._begin(run)

    def before_evaluation(self, run: Run) -> None:
        """Leave the time of the evaluation out."""
        self._pause = time.monotonic()

    def after_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Go on."""
        self._paused += time.monotonic() - self._pause

    def end(self, run: Run) -> None:
        """Give the result the FLOP/s of this process's part of the run."""
        if self._all[1]:
            for name, value in self._speed(run, *self._all).items():
                run.result(name, value)

    def _begin(self, run: Run) -> None:
        self._micro_batches, self._since, self._paused = run.count, time.monotonic(), 0.0

    def _speed(self, run: Run, micro_batches: float, seconds: float) -> dict[str, float]:
        speed = self.flops * micro_batches / max(seconds, 1e-9)
        share = {} if self._peak is None else {"utilisation": speed / (self._peak * run.ranks.size)}
        return {"flops_per_second": speed} | share


def _flops(run: Run) -> int:
    """Return the operations of one micro-batch on this rank, less those of optimizers' steps (Muon multiplies)."""
    from torch.utils.flop_counter import FlopCounterMode  # here: every run would wait 0.1 s for it

    batch = next(run.batches(run.count, run.count + 1))
    with (
        preserved(run, run.plan.accumulative_counts),
        torch.compiler.set_stance("force_eager"),  # what is compiled is not counted
        FlopCounterMode(display=False) as counter,
        _without_steps(run, counter) as in_steps,
    ):
        run.train_step(batch)
    return counter.get_total_flops() - sum(in_steps)


@contextmanager
def _without_steps(run: Run, counter: Any) -> Iterator[list[int]]:
    """Yield what optimizers' steps come to; the entries add up to it."""
    in_steps: list[int] = []
    handles: list[Any] = []
    for wrapper in named_wrappers(run.optim_wrapper).values():
        for optimizer in optimizers_of(wrapper.optimizer):
            handles += [
                optimizer.register_step_pre_hook(lambda *_: in_steps.append(-counter.get_total_flops())),
                optimizer.register_step_post_hook(lambda *_: in_steps.append(counter.get_total_flops())),
            ]
    try:
        yield in_steps
    finally:
        for handle in handles:
            handle.remove()


def _peak(run: Run) -> float | None:
    if run.device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(run.device)
    half, tf32 = next((peaks for device, peaks in _PEAKS.items() if device in name), (None, None))
    wrappers = named_wrappers(run.optim_wrapper).values()
    is_half = all(getattr(each, "dtype", None) in (torch.float16, torch.bfloat16) for each in wrappers)
    if is_half:
        return half
    return tf32 if torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32 else None
