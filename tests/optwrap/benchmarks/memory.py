"""Peak memory of a few updates beyond parameters, gradients and state."""

import subprocess
import sys

import torch
from torch.nn.utils import clip_grad_norm_

from optwrap.optim import OptimWrapper
from optwrap.record.meters import peak_memory_mib
from tests.optwrap.benchmarks.tables import Table
from tests.optwrap.benchmarks.timing import Timer
from tests.optwrap.benchmarks.workloads import MODELS, OPTIMIZERS, Gradients

_CASES = ("plain by hand", "fused by hand", "ours")


def run(timer: Timer) -> list[Table]:
    """Measure each case in a process of its own, since a process never gives its peak back."""
    rows = []
    for name in ("ResNet-50", "ViT-B/16"):
        command = [sys.executable, "-m", "tests.optwrap.benchmarks.memory", str(timer.device), name]
        peaks = [subprocess.run([*command, case], check=True, capture_output=True, text=True) for case in _CASES]
        rows.append((name, *(f"{int(each.stdout)} MiB" for each in peaks)))
    return [Table("Peak memory of AdamW with clipping, beyond that of its state", ("model", *_CASES), rows)]


def measure(device: torch.device, name: str, case: str) -> int:
    """Return by how many MiB three updates raise the peak that parameters, gradients and state have set."""
    params = list(MODELS[name]().to(device).parameters())
    Gradients(params)
    fused = case == "fused by hand" or None
    optimizer = torch.optim.AdamW(params, **OPTIMIZERS["AdamW"], fused=fused)
    wrapper = OptimWrapper(optimizer, clip_grad={"max_norm": 0.5}) if case == "ours" else None
    optimizer.step()  # creates the state
    before = peak_memory_mib(device) or 0
    for _ in range(3):
        if wrapper is not None:
            wrapper.step()
        else:
            clip_grad_norm_(params, 0.5)
            optimizer.step()
    return (peak_memory_mib(device) or 0) - before


if __name__ == "__main__":
    print(measure(torch.device(sys.argv[1]), *sys.argv[2:]))
