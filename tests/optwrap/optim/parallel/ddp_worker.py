"""One process of the tests of what DDP is apt to get wrong; see test_ddp.py."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from optwrap.errors import ConfigError
from optwrap.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict, frozen
from tests.optwrap.optim.parallel import harness as parallel
from tests.optwrap.optim.parallel.harness import batches, difference, joined, loss_of, net, train, train_by_hand


def unused(rank: int, wrapper_type: type[OptimWrapper], **ddp: Any) -> dict[str, Any]:
    """Leave a layer out of the loss of one window of two micro-batches."""
    model, alone = DistributedDataParallel(net(), **ddp), net()
    wrapper = wrapper_type(SGD(model.parameters(), lr=0.1), 2)
    said = []
    for batch in batches(rank):
        try:
            train(model, wrapper, [batch])
        except ConfigError as error:
            said.append((wrapper.inner_count, str(error)))
            break
    first, second, third, fourth = joined()
    windows = [tuple(map(torch.cat, zip(*pair, strict=True))) for pair in ((first, second), (third, fourth))]
    train_by_hand(alone, SGD(alone.parameters(), lr=0.1), windows)
    return {"said": said, "difference": difference(model, alone)}


def overflowed(rank: int, **optimizer: Any) -> dict[str, Any]:
    """Overflow in the loss of rank 1 only, in the first and the third step."""
    model, alone = parallel.replicated(net()), net()
    sgd = SGD(model.parameters(), lr=0.1, momentum=0.9, **optimizer)
    wrapper = AmpOptimWrapper(sgd, loss_scale={"init_scale": 256.0}, dtype="bfloat16", clip_grad={"max_norm": 9.0})
    for i, batch in enumerate(batches(rank)):
        loss = loss_of(model, batch)
        wrapper.update_params(loss * math.inf if rank and i in (0, 2) else loss)
    train_by_hand(alone, SGD(alone.parameters(), lr=0.1, momentum=0.9), joined()[1::2])
    scale = wrapper.loss_scaler.get_scale()
    return {"skipped": wrapper.skipped_steps, "scale": scale, "difference": difference(model, alone)}


class Gan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4))
        self.discriminator = nn.Sequential(nn.Linear(4, 5), nn.LeakyReLU(0.2), nn.Linear(5, 1))


def gan_spread(spread: Callable[[nn.Module], nn.Module] | None) -> Gan:
    torch.manual_seed(1)
    model = Gan()
    if spread is not None:
        model.generator, model.discriminator = spread(model.generator), spread(model.discriminator)
    return model


def gan_step(model: Gan, wrappers: OptimWrapperDict, noise: torch.Tensor, real: torch.Tensor) -> None:
    generator, discriminator = model.generator, model.discriminator
    with wrappers["generator"].optim_context(generator):
        fake = generator(noise)
    with wrappers["discriminator"].optim_context(discriminator):
        loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
    wrappers["discriminator"].update_params(loss)
    with wrappers["generator"].optim_context(generator), frozen(discriminator):
        loss = F.softplus(-discriminator(fake)).mean()
    wrappers["generator"].update_params(loss)


def gan(rank: int, spread: Callable[[nn.Module], nn.Module], counts: int) -> dict[str, Any]:
    """Train a GAN on this process's data, and on everyone's on one; the discriminator accumulates."""
    model, alone = gan_spread(spread), gan_spread(None)
    syncs = {"generator": 0, "discriminator": 0}
    for name in syncs:
        module = getattr(model, name)
        if isinstance(module, DistributedDataParallel):
            module.register_comm_hook((name, syncs), counted)
    for each, data in ((model, batches(rank)), (alone, joined())):
        wrappers = OptimWrapperDict(
            generator=OptimWrapper(SGD(each.generator.parameters(), lr=0.5), clip_grad={"max_norm": 0.1}),
            discriminator=OptimWrapper(SGD(each.discriminator.parameters(), lr=0.5), counts),
        )
        for noise, _ in data:
            gan_step(each, wrappers, noise, noise.flip(1) + 1)
    return {
        "difference": max(difference(getattr(model, name), getattr(alone, name)) for name in syncs),
        "syncs": syncs,
    }


def counted(state: tuple[str, dict[str, int]], bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    name, syncs = state
    syncs[name] += bucket.index() == 0
    work = dist.all_reduce(bucket.buffer() / dist.get_world_size(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def sharded(module: nn.Module) -> nn.Module:
    return fully_shard(module, mesh=parallel.mesh())


def static_graph(rank: int) -> str:
    model = DistributedDataParallel(net(), static_graph=True)
    try:
        train(model, OptimWrapper(SGD(model.parameters(), lr=0.1), 2), batches(rank)[:1])
    except ConfigError as error:
        return str(error)
    return ""


def checks(rank: int) -> dict[str, Any]:
    return {
        "unused": unused(rank, OptimWrapper, gradient_as_bucket_view=True),
        "unused, AMP": unused(rank, AmpOptimWrapper),
        "found": unused(rank, OptimWrapper, find_unused_parameters=True),
        "overflow": overflowed(rank),
        "overflow, plain loop": overflowed(rank, foreach=False),
        "gan-ddp": gan(rank, DistributedDataParallel, 1),
        "gan-ddp-2": gan(rank, DistributedDataParallel, 2),
        "gan-fsdp2": gan(rank, sharded, 1),
        "gan-fsdp2-2": gan(rank, sharded, 2),
        "static_graph": static_graph(rank),
    }


if __name__ == "__main__":
    parallel.work(checks)
