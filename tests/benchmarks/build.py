"""Building param groups from `paramwise_cfg`."""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import SGD

from optwrap.optim import ParamwiseRules, assign, build_optim_wrapper, param_groups, walk
from tests.benchmarks.tables import Table, milliseconds, ratio
from tests.benchmarks.timing import Case, Timer
from tests.benchmarks.workloads import MODELS, OPTIMIZERS, Bag, has

_PARAMWISE = {"norm_decay_mult": 0.0}
_PEER_TAKES_A_MINUTE = 10_000  # parameters


def run(timer: Timer) -> list[Table]:
    """Compare with MMEngine's constructor and with one pass over the parameters, the least it can be."""
    models: dict[str, Callable[[], nn.Module]] = {"ResNet-50": MODELS["ResNet-50"]}
    models |= {f"{count:,} small": (lambda count=count: Bag(count)) for count in (1_000, 10_000, 100_000)}
    rows = []
    for name, make in models.items():
        model = make().to(timer.device)
        count = len(list(model.parameters()))
        times = timer.run(_cases(model, count))
        ours = times.seconds("ours")
        peers = [
            ratio(times.ratio(peer, own), 1) if peer in times.rounds else "left out"
            for peer, own in (("mmengine", "ours"), ("mmengine, bypass", "ours"), ("mmengine whole", "ours whole"))
        ]
        linear = ratio(times.ratio("ours", "one pass"), 2)
        rows.append((name, milliseconds(ours), f"{ours.median / count * 1e6:.1f} µs", linear, *peers))
    columns = (
        "model",
        "param groups, ours",
        "a parameter",
        "ours / one pass",
        "MMEngine / ours",
        "with `bypass_duplicate`",
        "whole wrapper: MMEngine / ours",
    )
    note = "SGD with `norm_decay_mult=0`; one pass: an optimizer of two lists of parameters, collected by hand."
    return [Table("Group building", columns, rows, note)]


def _cases(model: nn.Module, count: int) -> dict[str, Case]:
    base = SGD(model.parameters(), **OPTIMIZERS["SGD"]).defaults
    rules = ParamwiseRules.from_config(_PARAMWISE)
    config = {"optimizer": {"_target_": "torch.optim.SGD", **OPTIMIZERS["SGD"]}, "paramwise_cfg": _PARAMWISE}
    cases: dict[str, Case] = {
        "one pass": lambda: _one_pass(model),
        "ours": lambda: param_groups(assign(walk(model), base, rules)),
        "ours whole": lambda: build_optim_wrapper(model, config),
    }
    if has("mmengine") and count < _PEER_TAKES_A_MINUTE:
        cases["mmengine"] = _mmengine_groups(model, _PARAMWISE)
        cases["mmengine, bypass"] = _mmengine_groups(model, _PARAMWISE | {"bypass_duplicate": True})
        cases["mmengine whole"] = lambda: mmengine_wrapper(model, "SGD")
    return cases


def _one_pass(model: nn.Module) -> SGD:
    groups: list[list[nn.Parameter]] = [[], []]
    for module in model.modules():
        is_norm = isinstance(module, nn.BatchNorm2d | nn.LayerNorm)
        groups[is_norm].extend(module.parameters(recurse=False))
    return SGD([{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}], **OPTIMIZERS["SGD"])


def _mmengine_groups(model: nn.Module, paramwise: dict[str, Any]) -> Case:
    from mmengine.optim import DefaultOptimWrapperConstructor

    config = {"type": "OptimWrapper", "optimizer": {"type": "SGD", **OPTIMIZERS["SGD"]}}
    constructor = DefaultOptimWrapperConstructor(config, paramwise)

    def add_params() -> None:
        with _quiet():
            constructor.add_params([], model)

    return add_params


def mmengine_wrapper(model: nn.Module, optimizer: str) -> Any:
    """Return MMEngine's wrapper of the optimizer for the same `paramwise_cfg`."""
    from mmengine.optim import build_optim_wrapper as build

    config = {
        "optimizer": {"type": optimizer, **OPTIMIZERS[optimizer]},
        "paramwise_cfg": copy.deepcopy(_PARAMWISE),
    }
    with _quiet():
        return build(model, config)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out MMEngine's log line a parameter: printing is not what is timed."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
