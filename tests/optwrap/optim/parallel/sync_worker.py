"""One process of the data-parallel tests: trains and counts synchronisations; see test_sync.py."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from optwrap.errors import ConfigError
from optwrap.optim import AmpOptimWrapper, OptimWrapper
from tests.optwrap.optim.parallel.harness import full, work

SIZES_WITH_NONE = [[3, 0, 2, 0, 4, 0, 1, 8], [6, 1, 0, 0, 0, 3, 7, 0]]
SIZES = [[3, 7, 2, 5, 4, 6, 1, 8], [6, 1, 9, 2, 5, 3, 7, 4]]  # of the micro-batches of each rank


def model_of() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def data(sizes: list[int], seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(n, 4, generator=generator), torch.randint(3, (n,), generator=generator)) for n in sizes]


def loss_of(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]).float(), batch[1])


def padded_loss_of(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The same of a padded batch: 0/0 where it is padding alone."""
    inputs, targets = torch.cat([batch[0], torch.ones(2, 4)]), F.pad(batch[1], (0, 2))
    is_item = (torch.arange(len(inputs)) < len(batch[0])).float()
    return (F.cross_entropy(model(inputs), targets, reduction="none") * is_item).sum() / is_item.sum()


def train(
    model: nn.Module, batches: list, wrapper: OptimWrapper, weighted: bool = False, loss_of: Callable = loss_of
) -> OptimWrapper:
    wrapper.initialize_count_status(model, 0, len(batches))
    for batch in batches:
        with wrapper.optim_context(model):
            loss = loss_of(model, batch)
        wrapper.update_params(loss, weight=len(batch[1]) if weighted else None)
    return wrapper


def counted_ddp(rank: int, wrapper_type: type, counts: int) -> dict[str, int]:
    """Count the gradient averages of a DDP run by a communication hook."""
    model = DistributedDataParallel(model_of())
    calls = []

    def hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        calls.append(bucket.index())
        work = dist.all_reduce(bucket.buffer() / dist.get_world_size(), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    model.register_comm_hook(None, hook)
    wrapper = train(model, data([4] * 8, rank), wrapper_type(SGD(model.parameters(), lr=0.1), counts))
    return {"syncs": calls.count(0), "updates": wrapper.updates}


def weighted_error(rank: int, parallel: str, counts: int, of_all: list[list[int]] = SIZES) -> float:
    """Train weighted on two processes and on one; return the largest difference of a parameter."""
    model = wrap(parallel)
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), counts)
    train(model, data(of_all[rank], rank), wrapper, True, loss_of if of_all is SIZES else padded_loss_of)

    alone = model_of()
    optimizer = SGD(alone.parameters(), lr=0.1)
    per_rank = [data(sizes, seed) for seed, sizes in enumerate(of_all)]
    for i in range(0, 8, counts):
        parts = [batch for batches in per_rank for batch in batches[i : i + counts]]
        inputs, targets = (torch.cat(part) for part in zip(*parts, strict=True))
        if len(inputs):
            loss_of(alone, (inputs, targets)).backward()
        optimizer.step()
        optimizer.zero_grad()
    expected = dict(alone.named_parameters())
    return max((full(p) - expected[name]).abs().max().item() for name, p in plain_parameters(model))


def wrap(parallel: str) -> nn.Module:
    model = model_of()
    if parallel == "ddp":
        return DistributedDataParallel(model)
    if parallel == "fsdp1":
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    fully_shard(model, mesh=dist.init_device_mesh("cpu", (dist.get_world_size(),)))
    return model


def plain_parameters(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [(name.removeprefix("module."), p) for name, p in model.named_parameters()]


def fsdp2_grads_inside_window(rank: int) -> list[bool]:
    """After each micro-batch of a window of 3: has the sharded gradient been reduced yet?"""
    model = wrap("fsdp2")
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), 3)
    seen = []
    for batch in data([4] * 3, rank):
        with wrapper.optim_context(model):
            loss = loss_of(model, batch)
        wrapper.backward(wrapper.scale_loss(loss))
        seen.append(next(model.parameters()).grad is not None)
    return seen


def fsdp1_refusals(rank: int) -> list[str]:
    """What FSDP1 cannot do rank by rank is refused: clipping and loss scaling."""
    said = []
    for kind, kwargs in (
        (OptimWrapper, {"clip_grad": {"max_norm": 1.0}}),
        (AmpOptimWrapper, {"dtype": "float16"}),
    ):
        model = wrap("fsdp1")
        wrapper = kind(SGD(model.parameters(), lr=0.1), **kwargs)
        try:
            with wrapper.optim_context(model):
                pass
        except ConfigError as error:
            said.append(str(error))
    return said


def two_models_in_turn(rank: int) -> bool:
    """A wrapper that sees a plain model after a DDP one still averages weights over processes."""
    model, plain = wrap("ddp"), nn.Linear(1, 1)
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1))
    for each in (model, plain):
        with wrapper.optim_context(each):
            pass
    with wrapper.optim_context(model):
        loss = loss_of(model, data([2 + rank], rank)[0])
    wrapper.update_params(loss, weight=2 + rank)
    mine = torch.cat([p.detach().flatten() for p in model.parameters()])
    both = [torch.zeros_like(mine) for _ in range(2)]
    dist.all_gather(both, mine)
    return torch.equal(*both)


def saving_inside_a_window(rank: int) -> str:
    """Gradients differ between processes there, so a state dict is refused."""
    model = wrap("ddp")
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), 2)
    with wrapper.optim_context(model):
        loss = loss_of(model, data([3], rank)[0])
    wrapper.update_params(loss)
    try:
        wrapper.state_dict()
    except ValueError as error:
        return str(error)
    return ""


def checks(rank: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        f"{kind.__name__}-{counts}": counted_ddp(rank, kind, counts)
        for kind in (OptimWrapper, AmpOptimWrapper)
        for counts in (1, 3, 8)
    }
    result |= {
        f"weighted-{parallel}-{counts}": weighted_error(rank, parallel, counts)
        for parallel in ("ddp", "fsdp2")
        for counts in (1, 3)
    }
    result |= {
        f"empty-{parallel}-{counts}": weighted_error(rank, parallel, counts, SIZES_WITH_NONE)
        for parallel in ("ddp", "fsdp2")
        for counts in (1, 3)
    }
    result["fsdp1"] = fsdp1_refusals(rank)
    result["two models"] = two_models_in_turn(rank)
    result["saving"] = saving_inside_a_window(rank)
    result["fsdp2"] = fsdp2_grads_inside_window(rank)
    return result


if __name__ == "__main__":
    work(checks)
