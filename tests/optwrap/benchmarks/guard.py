"""What the checks before a fused step cost."""

import torch

from optwrap.optim.step.fused import FusedKernel
from tests.optwrap.benchmarks.tables import Table, milliseconds, ratio
from tests.optwrap.benchmarks.timing import Timer
from tests.optwrap.benchmarks.workloads import MODELS, OPTIMIZERS, Gradients


def run(timer: Timer) -> list[Table]:
    """Compare a guarded step with the bare optimizer's: what the checks alone take, a step may save again.

    The least that checks could take is to read each gradient, its strides, its dtype and its parameter's address.
    """
    rows = []
    for name, make in MODELS.items():
        for optimizer, kwargs in OPTIMIZERS.items():
            params = list(make().to(timer.device).parameters())
            Gradients(params)
            made = getattr(torch.optim, optimizer)(params, **kwargs, fused=True)
            kernel = FusedKernel(made)
            kernel.step()
            cases = {"bare": made.step, "guarded": kernel.step, "reading": lambda params=params: _read(params)}
            times = timer.run(cases, repeat=1 if len(params) > 100 else 20)
            over, reading = times.ratio("guarded", "bare"), times.ratio("reading", "bare")
            bare = milliseconds(times.seconds("bare"))
            rows.append((name, optimizer, f"{len(params):,}", bare, ratio(over, 3), ratio(reading, 3)))
    columns = ("model", "optimizer", "parameters", "bare fused step", "guarded / bare", "reading alone / bare")
    return [Table("Checks before a fused step", columns, rows)]


def _read(params: list[torch.Tensor]) -> None:
    for param in params:
        grad = param.grad
        assert grad is not None
        _ = grad.stride(), grad.dtype, param.data_ptr()
