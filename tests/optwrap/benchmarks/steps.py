"""Optimizer steps: alone, after clipping, after unscaling and clipping."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from optwrap.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from tests.optwrap.benchmarks.build import mmengine_wrapper
from tests.optwrap.benchmarks.machine import ELEMENTS
from tests.optwrap.benchmarks.tables import Table, milliseconds, ratio
from tests.optwrap.benchmarks.timing import Case, Timer
from tests.optwrap.benchmarks.workloads import MODELS, OPTIMIZERS, TOUCHES, Gradients, has

_STEP_PAIRS = [("ResNet-50", "SGD"), ("ResNet-50", "AdamW"), ("ViT-B/16", "SGD"), ("ViT-B/16", "AdamW")]
_PAIRS = [*_STEP_PAIRS, ("tiny", "SGD"), ("tiny", "AdamW"), ("2,000 small", "SGD"), ("2,000 small", "AdamW")]
_SCALE = 1024.0


def run_step(timer: Timer) -> list[Table]:
    """Compare steps under `norm_decay_mult=0`: a param group a parameter, merged ones, and fused ones."""
    rows = []
    for name, optimizer in [*_STEP_PAIRS, *_PAIRS[-2:]]:
        model = MODELS[name]().to(timer.device)
        params = list(model.parameters())
        Gradients(params)
        cases = _step_cases(model, optimizer)
        memory = torch.ones(ELEMENTS, device=timer.device)
        times = timer.run(cases | {"multiplication": partial(memory.mul_, 1.0)})
        # Measured in the same rounds: what bandwidth other programs leave changes by the minute.
        moved = TOUCHES[optimizer] * sum(param.nbytes for param in params) / (2 * memory.nbytes)
        share = moved * times.ratio("multiplication", "ours").median
        others = [
            ratio(times.ratio(case, "ours")) if case in cases else "left out"
            for case in ("mmengine", "group a parameter", "merged", "fused by hand")
        ]
        rows.append((name, optimizer, milliseconds(times.seconds("ours")), f"{share:.0%}", *others))
    columns = (
        "model",
        "optimizer",
        "ours",
        "of the bandwidth",
        "MMEngine / ours",
        "a group a parameter / ours",
        "merged / ours",
        "merged and fused by hand / ours",
    )
    note = "Of the bandwidth: bytes that a step must touch, over those that an in-place multiplication touches."
    return [Table("Step with `paramwise_cfg`", columns, rows, note)]


def _step_cases(model: nn.Module, name: str) -> dict[str, Case]:
    kwargs = OPTIMIZERS[name]
    config = {
        "optimizer": {"_target_": f"torch.optim.{name}", **kwargs},
        "paramwise_cfg": {"norm_decay_mult": 0.0},
    }
    ours: Any = build_optim_wrapper(model, config)
    make = getattr(torch.optim, name)
    merged = [(group["params"], group["weight_decay"]) for group in ours.optimizer.param_groups]
    single = [([param], weight_decay) for params, weight_decay in merged for param in params]
    cases: dict[str, Case] = {
        "ours": ours.step,
        "fused by hand": make(_groups(merged), **kwargs, fused=True).step,
        "merged": make(_groups(merged), **kwargs).step,
        "group a parameter": make(_groups(single), **kwargs).step,
    }
    if has("mmengine"):
        peer: Any = mmengine_wrapper(model, name)
        cases["mmengine"] = peer.step
    return cases


def _groups(settings: list[tuple[list[Tensor], float]]) -> list[dict[str, Any]]:
    """Return new param groups: an optimizer writes its other options into the dicts that it is given."""
    return [{"params": params, "weight_decay": weight_decay} for params, weight_decay in settings]


def run_clip(timer: Timer) -> list[Table]:
    """Compare clip and step with `clip_grad_norm_` before the same fused optimizer."""
    rows = []
    for name, optimizer in _PAIRS:
        params = list(MODELS[name]().to(timer.device).parameters())
        gradients = Gradients(params)
        cells = []
        for max_norm in (0.5, 2.0):
            by_hand, ours = _fused(optimizer, params), _fused(optimizer, params)
            wrapper = OptimWrapper(ours, clip_grad={"max_norm": max_norm})
            cases: dict[str, Case] = {
                "by hand": partial(_clip_by_hand, params, by_hand, max_norm),
                "ours": wrapper.step,
            }
            times = timer.run(cases, gradients.fill)
            cells += [milliseconds(times.seconds("by hand")), ratio(times.ratio("ours", "by hand"))]
        rows.append((name, optimizer, *cells))
    columns = (
        "model",
        "optimizer",
        "clips: by hand",
        "ours / by hand",
        "leaves as is: by hand",
        "ours / by hand ",
    )
    return [Table("Clip and step", columns, rows, "By hand: `clip_grad_norm_` and the same fused optimizer.")]


def run_amp(timer: Timer) -> list[Table]:
    """Compare unscale, clip and step under loss scaling with GradScaler by hand."""
    rows = []
    for name, optimizer in _PAIRS:
        params = list(MODELS[name]().to(timer.device).parameters())
        gradients = Gradients(params, norm=_SCALE)
        cells = []
        for max_norm in (0.5, 2.0, None):
            times = timer.run(_amp_cases(params, optimizer, max_norm), gradients.fill)
            cells += [ratio(times.ratio("ours", "by hand"))]
        rows.append((name, optimizer, milliseconds(times.seconds("by hand")), *cells))
    columns = ("model", "optimizer", "by hand, no clip", "clips: ours / by hand", "leaves as is", "no clip")
    note = (
        "By hand: GradScaler's `unscale_`, `clip_grad_norm_`, `step` and `update` with the same fused optimizer."
    )
    return [Table("Unscale, clip and step", columns, rows, note)]


def _amp_cases(params: list[Tensor], optimizer: str, max_norm: float | None) -> dict[str, Case]:
    device = params[0].device
    by_hand, scaler = _fused(optimizer, params), torch.amp.GradScaler(device.type, init_scale=_SCALE)
    wrapper = AmpOptimWrapper(
        _fused(optimizer, params),
        clip_grad=None if max_norm is None else {"max_norm": max_norm},
        dtype="float16",
        loss_scale={"init_scale": _SCALE},
    )
    assert wrapper.loss_scaler is not None
    for each in (scaler, wrapper.loss_scaler):
        each.scale(torch.zeros((), device=device))  # a backward pass does

    def step_by_hand() -> None:
        if max_norm is not None:
            scaler.unscale_(by_hand)
            clip_grad_norm_(params, max_norm)
        scaler.step(by_hand)
        scaler.update()

    return {"by hand": step_by_hand, "ours": wrapper.step}


def _clip_by_hand(params: list[Tensor], optimizer: torch.optim.Optimizer, max_norm: float) -> None:
    clip_grad_norm_(params, max_norm)
    optimizer.step()


def _fused(name: str, params: list[Tensor]) -> torch.optim.Optimizer:
    return getattr(torch.optim, name)(params, **OPTIMIZERS[name], fused=True)
