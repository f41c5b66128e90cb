"""What the checks before a fused step cost."""

import torch

from optwrap.optim.fused import FusedKernel
from tests.benchmarks.tables import Table, milliseconds, ratio
from tests.benchmarks.timing import Timer
from tests.benchmarks.workloads import MODELS, OPTIMIZERS, Gradients


def run(timer: Timer) -> list[Table]:
    """Compare the checks with the bare optimizer's step."""
    rows = []
    for name, make in MODELS.items():
        for optimizer, kwargs in OPTIMIZERS.items():
            params = list(make().to(timer.device).parameters())
            Gradients(params)
            made = getattr(torch.optim, optimizer)(params, **kwargs, fused=True)
            repeat = 1 if len(params) > 100 else 20
            times = timer.run({"step": made.step, "checks": FusedKernel(made).grads}, repeat=repeat)
            share = ratio(times.ratio("checks", "step"), 4)
            rows.append((name, optimizer, f"{len(params):,}", milliseconds(times.seconds("checks")), share))
    columns = ("model", "optimizer", "parameters", "checks", "checks / bare fused step")
    return [Table("Checks before a fused step", columns, rows)]
