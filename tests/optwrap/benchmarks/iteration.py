"""Whole training iterations of a tiny model: what a wrapper costs where there is little else."""

import logging
import os
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from optwrap.optim import OptimWrapper
from tests.optwrap.benchmarks.tables import Table, milliseconds, ratio
from tests.optwrap.benchmarks.timing import Case, Timer
from tests.optwrap.benchmarks.workloads import OPTIMIZERS, has, tiny

_BATCH, _REPEAT = 32, 5  # few calls a round, so that the cases of a round meet the same machine
_MAX_NORM = 0.1


def run(timer: Timer) -> list[Table]:
    """Compare with the same written by hand, and with each library that is installed."""
    rows = []
    for optimizer in OPTIMIZERS:
        for clips in (False, True):
            cases = {name: make(timer.device, optimizer, clips) for name, make in _makers().items()}
            times = timer.run(cases, repeat=_REPEAT)
            others = [
                ratio(times.ratio(name, "by hand")) if name in cases else "left out"
                for name in ("ours", "mmengine", "fabric", "accelerate")
            ]
            rows.append((optimizer, "yes" if clips else "no", milliseconds(times.seconds("by hand")), *others))
    columns = ("optimizer", "clips", "by hand", "ours / by hand", "MMEngine", "Fabric", "Accelerate")
    note = f"A model of 9,000 parameters, batches of {_BATCH}, the same fused optimizer everywhere."
    return [Table("Whole iteration, tiny model", columns, rows, note)]


def _makers() -> dict[str, Callable[[torch.device, str, bool], Case]]:
    makers: dict[str, Callable[[torch.device, str, bool], Case]] = {"by hand": _by_hand, "ours": _ours}
    peers = {"mmengine": _mmengine, "fabric": _fabric, "accelerate": _accelerate}
    packages = {"mmengine": "mmengine", "fabric": "lightning_fabric", "accelerate": "accelerate"}
    return makers | {name: make for name, make in peers.items() if has(packages[name])}


def _setup(device: torch.device, optimizer: str) -> tuple[nn.Module, torch.optim.Optimizer, Tensor, Tensor]:
    torch.manual_seed(0)
    model = tiny().to(device)
    made = getattr(torch.optim, optimizer)(model.parameters(), **OPTIMIZERS[optimizer], fused=True)
    return model, made, torch.randn(_BATCH, 64, device=device), torch.randint(10, (_BATCH,), device=device)


def _by_hand(device: torch.device, name: str, clips: bool) -> Case:
    model, optimizer, inputs, target = _setup(device, name)
    params = list(model.parameters())

    def iterate() -> None:
        F.cross_entropy(model(inputs), target).backward()
        if clips:
            clip_grad_norm_(params, _MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()

    return iterate


def _ours(device: torch.device, name: str, clips: bool) -> Case:
    model, optimizer, inputs, target = _setup(device, name)
    wrapper = OptimWrapper(optimizer, clip_grad={"max_norm": _MAX_NORM} if clips else None)

    def iterate() -> None:
        with wrapper.optim_context(model):
            loss = F.cross_entropy(model(inputs), target)
        wrapper.update_params(loss)

    return iterate


def _mmengine(device: torch.device, name: str, clips: bool) -> Case:
    from mmengine.optim import OptimWrapper as Peer

    model, optimizer, inputs, target = _setup(device, name)
    wrapper = Peer(optimizer=optimizer, clip_grad={"max_norm": _MAX_NORM} if clips else None)

    def iterate() -> None:
        with wrapper.optim_context(model):
            loss = F.cross_entropy(model(inputs), target)
        wrapper.update_params(loss)

    logging.disable(logging.WARNING)  # it warns in its first update
    iterate()
    logging.disable(logging.NOTSET)
    return iterate


def _fabric(device: torch.device, name: str, clips: bool) -> Case:
    with patch.dict(os.environ):  # it sets a variable that adds 45 us to every Adam step of the process
        from lightning_fabric import Fabric

    model, optimizer, inputs, target = _setup(device, name)
    fabric = Fabric(accelerator=device.type, devices=1)
    wrapped: Any
    peer: Any
    wrapped, peer = fabric.setup(model, optimizer)

    def iterate() -> None:
        fabric.backward(F.cross_entropy(wrapped(inputs), target))
        if clips:
            fabric.clip_gradients(wrapped, peer, max_norm=_MAX_NORM)
        peer.step()
        peer.zero_grad()

    return iterate


def _accelerate(device: torch.device, name: str, clips: bool) -> Case:
    from accelerate import Accelerator

    model, optimizer, inputs, target = _setup(device, name)
    accelerator = Accelerator(cpu=device.type == "cpu")
    wrapped, peer = accelerator.prepare(model, optimizer)
    params = list(wrapped.parameters())

    def iterate() -> None:
        with accelerator.accumulate(wrapped):
            accelerator.backward(F.cross_entropy(wrapped(inputs), target))
            if clips:
                accelerator.clip_grad_norm_(params, _MAX_NORM)
            peer.step()
            peer.zero_grad()

    return iterate
