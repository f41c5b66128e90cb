"""How the cost of a step grows with the number of parameters and of param groups."""

import torch

from optwrap.optim import OptimWrapper
from tests.optwrap.benchmarks.tables import Table, milliseconds, ratio
from tests.optwrap.benchmarks.timing import Timer
from tests.optwrap.benchmarks.workloads import OPTIMIZERS, Bag, Gradients


def run(timer: Timer) -> list[Table]:
    """Time SGD steps with clipping, of more and more small parameters, in one param group and in many."""
    rows = []
    for count, groups in (
        (100, 1),
        (1_000, 1),
        (10_000, 1),
        (100_000, 1),
        (1_000, 10),
        (1_000, 100),
        (1_000, 1_000),
    ):
        params = list(Bag(count).to(timer.device).parameters())
        Gradients(params)
        size = count // groups
        parts = [{"params": params[i : i + size]} for i in range(0, count, size)]
        bare = torch.optim.SGD(parts, **OPTIMIZERS["SGD"], fused=True)
        ours = OptimWrapper(torch.optim.SGD(parts, **OPTIMIZERS["SGD"]), clip_grad={"max_norm": 1e3})
        times = timer.run({"bare": bare.step, "ours": ours.step})
        a_parameter = f"{times.seconds('ours').median / count * 1e6:.2f} µs"
        over = ratio(times.ratio("ours", "bare"))
        rows.append((f"{count:,}", f"{groups:,}", milliseconds(times.seconds("ours")), a_parameter, over))
    columns = ("parameters", "param groups", "clip and step", "a parameter", "ours / bare step without clip")
    return [Table("Growth with parameters and param groups", columns, rows)]
