"""Building param groups from `paramwise_cfg`."""

import copy
import logging

from torch import nn
from torch.optim import SGD

from optwrap.optim import build_optim_wrapper
from tests.benchmarks.tables import Table, milliseconds, ratio
from tests.benchmarks.timing import Case, Timer
from tests.benchmarks.workloads import MODELS, OPTIMIZERS, Bag, has

_PARAMWISE = {"norm_decay_mult": 0.0}
_PEER_TAKES_A_MINUTE = 10_000  # parameters


def run(timer: Timer) -> list[Table]:
    """Compare with MMEngine's constructor and with one pass over the parameters, the least it can be."""
    models = {"ResNet-50": MODELS["ResNet-50"]} | {
        f"{count:,} parameters": (lambda count=count: Bag(count)) for count in (1_000, 10_000, 100_000)
    }
    rows = []
    for name, make in models.items():
        model = make().to(timer.device)
        times = timer.run(_cases(model))
        ours = times.seconds("ours")
        count = len(list(model.parameters()))
        peer = ratio(times.ratio("mmengine", "ours"), 0) if "mmengine" in times.rounds else "left out"
        linear = ratio(times.ratio("ours", "one pass"), 1)
        rows.append((name, milliseconds(ours), f"{ours.median / count * 1e6:.1f} µs", linear, peer))
    columns = ("model", "ours", "a parameter", "ours / one pass", "MMEngine / ours")
    note = "A wrapper of SGD with `norm_decay_mult=0`; one pass: two param groups collected by hand."
    return [Table("Group building", columns, rows, note)]


def _cases(model: nn.Module) -> dict[str, Case]:
    def by_hand() -> None:
        groups: list[list[nn.Parameter]] = [[], []]
        for module in model.modules():
            is_norm = isinstance(module, nn.BatchNorm2d | nn.LayerNorm)
            groups[is_norm].extend(module.parameters(recurse=False))
        SGD([{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}], **OPTIMIZERS["SGD"])

    config = {"optimizer": {"_target_": "torch.optim.SGD", **OPTIMIZERS["SGD"]}, "paramwise_cfg": _PARAMWISE}
    cases: dict[str, Case] = {"one pass": by_hand, "ours": lambda: build_optim_wrapper(model, config)}
    if has("mmengine") and len(list(model.parameters())) < _PEER_TAKES_A_MINUTE:
        cases["mmengine"] = lambda: mmengine_wrapper(model, "SGD")
    return cases


def mmengine_wrapper(model: nn.Module, optimizer: str) -> object:
    """Return MMEngine's wrapper of the optimizer for the same `paramwise_cfg`."""
    from mmengine.optim import build_optim_wrapper as build

    logging.disable(logging.WARNING)  # it logs a line a parameter
    config = {
        "optimizer": {"type": optimizer, **OPTIMIZERS[optimizer]},
        "paramwise_cfg": copy.deepcopy(_PARAMWISE),
    }
    try:
        return build(model, config)
    finally:
        logging.disable(logging.NOTSET)
