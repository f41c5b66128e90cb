"""What averages of the weights add to a step, and to an iteration."""

from functools import partial

import torch
from torch import nn

from optwrap.optim import OptimWrapper
from tests.optwrap.benchmarks.tables import Table, milliseconds, ratio
from tests.optwrap.benchmarks.timing import Case, Timer
from tests.optwrap.benchmarks.workloads import MODELS, OPTIMIZERS, Gradients, has

_AVERAGING = {"kind": "ema", "decay": 0.999}


def run(timer: Timer) -> list[Table]:
    """Compare a step with `ema`, and one with timm's ModelEmaV3 behind it, with the step alone."""
    rows = []
    for name, optimizer in (
        ("ResNet-50", "SGD"),
        ("ResNet-50", "AdamW"),
        ("ViT-B/16", "AdamW"),
        ("tiny", "AdamW"),
    ):
        model = MODELS[name]().to(timer.device)
        params = list(model.parameters())
        gradients = Gradients(params)
        cases = _cases(model, optimizer)
        times = timer.run(cases, gradients.fill)
        others = [
            ratio(times.ratio(case, "step")) if case in cases else "left out"
            for case in ("with ema", "timm behind it")
        ]
        rows.append((name, optimizer, milliseconds(times.seconds("step")), *others))
    columns = ("model", "optimizer", "step", "with ema / step", "with ModelEmaV3 behind it / step")
    note = "An average reads the weights, reads itself and writes itself: 3 accesses beside the 7 of AdamW's step."
    return [Table("Averaged weights", columns, rows, note)]


def _cases(model: nn.Module, name: str) -> dict[str, Case]:
    def wrapper(averaging: dict[str, object] | None) -> OptimWrapper:
        optimizer = getattr(torch.optim, name)(model.parameters(), **OPTIMIZERS[name])
        return OptimWrapper(optimizer, averaging=averaging)

    cases: dict[str, Case] = {"step": wrapper(None).step, "with ema": wrapper(_AVERAGING).step}
    if has("timm"):
        from timm.utils import ModelEmaV3

        cases["timm behind it"] = partial(_in_turn, wrapper(None).step, partial(ModelEmaV3(model).update, model))
    return cases


def _in_turn(*functions: Case) -> None:
    for function in functions:
        function()
