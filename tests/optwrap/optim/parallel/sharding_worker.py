"""One process of the tests of sharded training; see test_sharding.py."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from torch.profiler import ProfilerActivity, profile

from optwrap.optim import AmpOptimWrapper, OptimWrapper
from optwrap.optim.step.clip import total_norm
from tests.optwrap.optim.parallel import harness as parallel
from tests.optwrap.optim.parallel.harness import batches, difference, joined, loss_of, net, train, train_by_hand

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": partial(Adam, lr=0.01, amsgrad=True),
    "AdamW": partial(AdamW, lr=0.01),
    "Adagrad": partial(Adagrad, lr=0.05),
    "plain SGD": partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.01, foreach=False),
    "RMSprop": partial(RMSprop, lr=0.01),
}
CLIPS: dict[str, tuple[dict[str, float] | None, Callable[..., Any]]] = {
    "none": (None, lambda params: None),
    "norm": ({"max_norm": 0.3}, partial(clip_grad_norm_, max_norm=0.3)),
    "norm 1": ({"max_norm": 0.5, "norm_type": 1.0}, partial(clip_grad_norm_, max_norm=0.5, norm_type=1.0)),
    "norm inf": (
        {"max_norm": 0.1, "norm_type": math.inf},
        partial(clip_grad_norm_, max_norm=0.1, norm_type=math.inf),
    ),
    "value": ({"clip_value": 0.05}, partial(clip_grad_value_, clip_value=0.05)),
}


def trained(rank: int, shard: Callable[[nn.Module], nn.Module], optimizer: str, clip: str) -> dict[str, Any]:
    """Train by the wrapper on this process's data, and by hand on everyone's; say how they differ."""
    model, alone = shard(net()), net()
    clip_grad, clip_by_hand = CLIPS[clip]
    wrapper = OptimWrapper(OPTIMIZERS[optimizer](model.parameters()), clip_grad=clip_grad)
    optimizer_alone = OPTIMIZERS[optimizer](alone.parameters())
    norms = []
    for with_spare in (False, True):  # a layer has its first gradients late
        train(model, wrapper, batches(rank, 2), with_spare)
        train_by_hand(alone, optimizer_alone, joined(2), lambda p: norms.append(clip_by_hand(p)), with_spare)
    norm = wrapper.last_grad_norm
    off = difference(model, alone)
    loss_of(model, batches(rank)[0], True).backward()
    return {
        "difference": off,
        "norm": None if norm is None else norm.item() - norms[-1].item(),
        "plain norm": norm is None or type(norm) is torch.Tensor,
        "own norm": None if norm is None else norm.item(),
        "state is sharded": state_is_sharded(wrapper.optimizer),
        "fused": uses_fused_kernel(wrapper) if clip == "norm" else None,
    }


def state_is_sharded(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.state) and all(
        isinstance(value, DTensor) and value.placements == param.placements
        for param, state in optimizer.state.items()
        if isinstance(param, DTensor)
        for name, value in state.items()
        if name != "step"
    )


def uses_fused_kernel(optim_wrapper: OptimWrapper) -> bool:
    """Whether a step calls a fused kernel."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        optim_wrapper.step()
    return any("_fused_" in event.key for event in seen.key_averages())


def frees_gradients(rank: int, optimizer: str) -> bool:
    """Whether nothing holds the memory of a gradient once it is zeroed."""
    model = parallel.sharded(net())
    wrapper = OptimWrapper(OPTIMIZERS[optimizer](model.parameters()), clip_grad={"max_norm": 0.3})
    train(model, wrapper, batches(rank))
    loss_of(model, batches(rank)[0]).backward()
    memory = StorageWeakRef(model.hidden.weight.grad.to_local().untyped_storage())
    wrapper.step()
    wrapper.zero_grad()
    return memory.expired()


def summed(optimizer: str) -> float:
    """Step with a gradient that is a sum over processes not taken yet; return the difference from a whole one."""
    param = nn.Parameter(distribute_tensor(torch.ones(4), parallel.mesh(), [Shard(0)]))
    alone = nn.Parameter(torch.ones(4))
    param.grad = DTensor.from_local(torch.arange(4.0), parallel.mesh(), [Partial()])
    alone.grad = torch.arange(4.0) * dist.get_world_size()
    for each in (param, alone):
        OptimWrapper(OPTIMIZERS[optimizer]([each])).step()
    return (parallel.full(param) - alone).abs().max().item()


def disturbed(rank: int, optimizer: str) -> dict[str, Any]:
    """Convert the model to and fro, which gives its parameters new shards, then watch a step by a hook."""
    model, alone = parallel.sharded(net()), net()
    wrapper = OptimWrapper(OPTIMIZERS[optimizer](model.parameters()), clip_grad={"max_norm": 0.3})
    train(model, wrapper, batches(rank)[:2])
    model.double().float()
    train(model, wrapper, batches(rank)[2:3])
    seen: list[bool] = []
    wrapper.optimizer.register_step_post_hook(
        lambda each, *_: seen.extend(isinstance(param, DTensor) for param in each.param_groups[0]["params"])
    )
    train(model, wrapper, batches(rank)[3:])
    by_hand = partial(clip_grad_norm_, max_norm=0.3)
    train_by_hand(alone, OPTIMIZERS[optimizer](alone.parameters()), joined(), by_hand)
    return {"difference": difference(model, alone), "hook sees whole parameters": bool(seen) and all(seen)}


def overflowed(
    rank: int, shard: Callable[[nn.Module], nn.Module], optimizer: str, loss_scale: Any
) -> dict[str, Any]:
    """Overflow in one of the two shards only, in the first step and in the third."""
    if loss_scale == "dynamic":
        loss_scale = {"init_scale": 256.0}
    model, alone = shard(net()), net()
    wrapper = AmpOptimWrapper(
        OPTIMIZERS[optimizer](model.parameters()),
        loss_scale=loss_scale,
        dtype="bfloat16",
        clip_grad={"max_norm": 1.0},
    )
    kept, norms = [], []
    for i, batch in enumerate(batches(rank)):
        loss = loss_of(model, batch)
        wrapper.backward(wrapper.scale_loss(loss))
        before = difference(model, alone)
        if i in (0, 2) and rank % 2:
            model.hidden.weight.grad.to_local()[0, 0] = math.inf if i else math.nan
        wrapper.step()
        wrapper.zero_grad()
        if i in (0, 2):
            kept.append(difference(model, alone) == before)
            norms.append(math.isfinite(wrapper.last_grad_norm.item()))
    by_hand = partial(clip_grad_norm_, max_norm=1.0)
    train_by_hand(alone, OPTIMIZERS[optimizer](alone.parameters()), joined()[1::2], by_hand)
    return {
        "kept": kept,
        "finite norms": norms,
        "skipped": wrapper.skipped_steps,
        "updates": wrapper.updates,
        "scale": wrapper.loss_scaler.get_scale(),
        "difference": difference(model, alone),
    }


def norms(rank: int, shard: Callable[[nn.Module], nn.Module]) -> dict[str, Any]:
    """Return total norms relative to those on one process, and how many reductions each took."""
    model, alone = shard(net()), net()
    loss_of(model, batches(rank)[0]).backward()
    loss_of(alone, joined()[0]).backward()
    found: dict[str, Any] = {"reductions": []}
    all_reduce = dist.all_reduce

    def counted(*args: Any, **kwargs: Any) -> Any:
        found["reductions"][-1] += 1
        return all_reduce(*args, **kwargs)

    dist.all_reduce = counted
    for norm_type in (2.0, 1.0, 3.0, math.inf):
        found["reductions"].append(0)
        norm = total_norm(model.parameters(), norm_type)
        expected = clip_grad_norm_(alone.parameters(), math.inf, norm_type)
        found[f"{norm_type}"] = norm.item() / expected.item()
    if rank % 2:
        model.hidden.weight.grad.to_local()[0, 0] = math.nan
    found["reductions"].append(0)
    found["of NaN"] = [str(total_norm(model.parameters(), norm_type).item()) for norm_type in (2.0, math.inf)]
    found["reductions"].pop()
    for param in model.parameters():
        if param.grad is not None:
            (param.grad.to_local() if isinstance(param, DTensor) else param.grad).fill_(3e30)
    elements = sum(param.numel() for param in model.parameters() if param.grad is not None)
    dist.all_reduce = all_reduce
    found["of large ones"] = total_norm(model.parameters()).item() / (3e30 * elements**0.5)
    return found


def weighted(rank: int, counts: int) -> float:
    """Accumulate batches of different sizes, weighted and clipped; return the difference from one process."""
    sizes = [[3, 7, 2, 5], [6, 1, 9, 2], [4, 4, 1, 8], [2, 3, 5, 1]]
    model, alone = parallel.sharded(net()), net()
    wrapper = OptimWrapper(OPTIMIZERS["AdamW"](model.parameters()), counts, clip_grad={"max_norm": 0.3})
    optimizer = OPTIMIZERS["AdamW"](alone.parameters())
    data = [[batches(r, 1, n + 1)[0] for n in sizes[r]] for r in range(dist.get_world_size())]
    for batch in data[rank]:
        with wrapper.optim_context(model):
            loss = loss_of(model, batch)
        wrapper.update_params(loss, weight=len(batch[1]))
    for i in range(0, 4, counts):
        parts = [batch for of_rank in data for batch in of_rank[i : i + counts]]
        window = tuple(map(torch.cat, zip(*parts, strict=True)))
        train_by_hand(alone, optimizer, [window], partial(clip_grad_norm_, max_norm=0.3))
    return difference(model, alone)


def measured(rank: int) -> list[float]:
    """Measure the norm at every second update though nothing clips; return it relative to one process."""
    model, alone = parallel.sharded(net()), net()
    wrapper = OptimWrapper(OPTIMIZERS["SGD"](model.parameters()))
    wrapper.norm_is_due = lambda update: update % 2 == 0
    norms: list[torch.Tensor] = []
    optimizer = OPTIMIZERS["SGD"](alone.parameters())
    train_by_hand(alone, optimizer, joined(), lambda params: norms.append(clip_grad_norm_(params, math.inf)))
    seen = []
    for batch in batches(rank):
        train(model, wrapper, [batch])
        seen.append(None if wrapper.last_grad_norm is None else wrapper.last_grad_norm.item())
    return [seen[0], seen[1] / norms[1].item(), seen[2] == seen[1], seen[3] / norms[3].item()]


def cases() -> tuple[list[tuple[str, str, str]], list[tuple[str, str, Any]]]:
    """Return (how it is sharded, optimizer, clip) to train, and (..., loss scale) to overflow."""
    if dist.get_world_size() == 4:
        steps = [
            ("sharded", optimizer, clip) for optimizer in ("SGD", "plain SGD") for clip in ("norm", "norm inf")
        ]
        return steps, [("sharded", "SGD", "dynamic"), ("sharded", "plain SGD", "dynamic")]
    steps = [("sharded", optimizer, "norm") for optimizer in OPTIMIZERS]
    steps += [("sharded", "SGD", clip) for clip in CLIPS if clip != "norm"]
    steps += [("partly_sharded", "plain SGD", clip) for clip in CLIPS] + [("partly_sharded", "SGD", "norm")]
    overflows: list[tuple[str, str, Any]] = [("sharded", "AdamW", "dynamic")]
    overflows += [("sharded", optimizer, 128.0) for optimizer in ("SGD", "plain SGD")]
    overflows += [("partly_sharded", optimizer, "dynamic") for optimizer in ("SGD", "plain SGD")]
    return steps, overflows


def checks(rank: int) -> dict[str, Any]:
    steps, overflows = cases()
    result: dict[str, Any] = {
        f"{shard}-{optimizer}-{clip}": trained(rank, getattr(parallel, shard), optimizer, clip)
        for shard, optimizer, clip in steps
    }
    result |= {
        f"overflow-{shard}-{optimizer}-{scale}": overflowed(rank, getattr(parallel, shard), optimizer, scale)
        for shard, optimizer, scale in overflows
    }
    for shard in dict.fromkeys(shard for shard, _, _ in steps):  # in one order on all ranks
        result[f"norms-{shard}"] = norms(rank, getattr(parallel, shard))
    result["weighted"] = [weighted(rank, counts) for counts in (1, 2)]
    result |= {f"disturbed-{optimizer}": disturbed(rank, optimizer) for optimizer in ("SGD", "RMSprop")}
    if dist.get_world_size() == 2:
        result["summed"] = [summed(optimizer) for optimizer in ("SGD", "plain SGD")]
    result["measured"] = measured(rank)
    result["freed"] = [frees_gradients(rank, optimizer) for optimizer in ("SGD", "plain SGD")]
    return result


if __name__ == "__main__":
    parallel.work(checks)
