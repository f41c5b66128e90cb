"""Building param groups from `paramwise_cfg`."""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import SGD

from optwrap.optim import ParamwiseRules, assign, build_optim_wrapper, param_groups, walk
from tests.optwrap.benchmarks.tables import Table, milliseconds, ratio
from tests.optwrap.benchmarks.timing import Case, Timer, Times
from tests.optwrap.benchmarks.workloads import MODELS, OPTIMIZERS, Bag, has

_PARAMWISE = {"norm_decay_mult": 0.0}
_PEER_TAKES_A_MINUTE = 10_000  # parameters


def run(timer: Timer) -> list[Table]:
    """Compare with MMEngine's constructor, and with torch's own walk and constructor, which any builder needs."""
    models: dict[str, Callable[[], nn.Module]] = {"ResNet-50": MODELS["ResNet-50"]}
    models |= {f"{count:,} small": (lambda count=count: Bag(count)) for count in (1_000, 10_000, 100_000)}
    rows = []
    for name, make in models.items():
        model = make().to(timer.device)
        count = len(list(model.parameters()))
        groups = timer.run(_group_cases(model, count), repeat=max(1, 2_000 // count))
        wholes = timer.run(_whole_cases(model, count))
        ours = groups.seconds("ours")
        rows.append(
            (
                *(name, milliseconds(ours), f"{ours.median / count * 1e6:.1f} µs"),
                ratio(groups.ratio("ours", "bare walk")),
                *(_over(groups, peer) for peer in ("mmengine", "mmengine, bypass")),
                milliseconds(wholes.seconds("ours")),
                ratio(wholes.ratio("ours", "bare constructor"), 1),
                _over(wholes, "mmengine"),
            )
        )
    columns = (
        "model",
        "param groups, ours",
        "a parameter",
        "ours / `list(named_parameters())`",
        "MMEngine / ours",
        "with `bypass_duplicate`",
        "whole wrapper, ours",
        "ours / `SGD(two groups)`",
        "MMEngine / ours ",
    )
    note = (
        "SGD with `norm_decay_mult=0`. Param groups: from a model to the list that an optimizer takes, for "
        "neither library with the optimizer; the whole wrapper: from a config to a wrapper."
    )
    return [Table("Group building", columns, rows, note)]


def _over(times: Times, peer: str) -> str:
    return ratio(times.ratio(peer, "ours"), 1) if peer in times.rounds else "left out"


def _group_cases(model: nn.Module, count: int) -> dict[str, Case]:
    base = SGD(model.parameters(), **OPTIMIZERS["SGD"]).defaults
    rules = ParamwiseRules.from_config(_PARAMWISE)
    cases: dict[str, Case] = {
        "bare walk": lambda: list(model.named_parameters()),
        "ours": lambda: param_groups(assign(walk(model), base, rules)),
    }
    if has("mmengine") and count < _PEER_TAKES_A_MINUTE:
        cases["mmengine"] = _mmengine_groups(model, _PARAMWISE)
        cases["mmengine, bypass"] = _mmengine_groups(model, _PARAMWISE | {"bypass_duplicate": True})
    return cases


def _whole_cases(model: nn.Module, count: int) -> dict[str, Case]:
    config = {"optimizer": {"_target_": "torch.optim.SGD", **OPTIMIZERS["SGD"]}, "paramwise_cfg": _PARAMWISE}
    groups = _groups_by_hand(model)
    cases: dict[str, Case] = {
        "bare constructor": lambda: SGD(map(dict, groups), **OPTIMIZERS["SGD"]),
        "ours": lambda: build_optim_wrapper(model, config),
    }
    if has("mmengine") and count < _PEER_TAKES_A_MINUTE:
        cases["mmengine"] = lambda: mmengine_wrapper(model, "SGD")
    return cases


def _groups_by_hand(model: nn.Module) -> list[dict[str, Any]]:
    groups: list[list[nn.Parameter]] = [[], []]
    for module in model.modules():
        is_norm = isinstance(module, nn.BatchNorm2d | nn.LayerNorm)
        groups[is_norm].extend(module.parameters(recurse=False))
    return [{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}]


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
