"""What the tests on several processes share: starting them, their data, and the same training on one."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from optwrap.optim import OptimWrapper
from tests.optwrap import forking

Batch = tuple[torch.Tensor, torch.Tensor]


def results_of(worker: Path, size: int, folder: Path) -> list[dict[str, Any]]:
    """Run `size` gloo processes of a worker; return what each saw."""
    processes = [
        subprocess.Popen(
            [
                forking.python(),
                "-m",
                f"{__package__}.{worker.stem}",
                str(rank),
                str(size),
                str(folder),
            ],
            cwd=worker.parents[4],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * size, "\n".join(errors)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


def work(checks: Callable[[int], dict[str, Any]]) -> None:
    """Be one process of a worker: write what `checks(rank)` returns."""
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=size)
    (folder / f"{rank}.json").write_text(json.dumps(checks(rank)))
    dist.barrier()
    # Leave without tearing gloo down: its threads, joined too late now and then, abort the process.
    os._exit(0)


class Net(nn.Module):
    """Its rows do not divide by 2 or 4, the head has one only, and `spare` is used where it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden, self.spare = nn.Linear(4, 7), nn.Linear(7, 7), nn.Linear(7, 7)
        self.head = nn.Linear(7, 1)

    def forward(self, x: torch.Tensor, with_spare: bool = False) -> torch.Tensor:
        x = self.hidden(self.stem(x).tanh()).tanh()
        return self.head(self.spare(x) if with_spare else x)


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def replicated(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model, find_unused_parameters=True)


@functools.cache
def mesh() -> DeviceMesh:
    if dist.get_world_size() == 4:
        return dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    return dist.init_device_mesh("cpu", (dist.get_world_size(),))


def sharded(model: nn.Module) -> nn.Module:
    """Shard as FSDP2 does; on 4 processes over two of them, replicated over the others."""
    fully_shard(model.hidden, mesh=mesh())  # type: ignore[arg-type]
    return fully_shard(model, mesh=mesh())


def partly_sharded(model: nn.Module) -> nn.Module:
    """Shard `hidden` and `spare` alone; the gradients of the rest are averaged as they come."""
    for module in (model.hidden, model.spare):
        fully_shard(module, mesh=mesh())  # type: ignore[arg-type]
    for param in model.parameters():
        if not isinstance(param, DTensor):
            param.register_post_accumulate_grad_hook(average)
    return model


def average(param: torch.Tensor) -> None:
    assert param.grad is not None
    dist.all_reduce(param.grad)
    param.grad /= dist.get_world_size()


def batches(rank: int, steps: int = 4, size: int = 6) -> list[Batch]:
    generator = torch.Generator().manual_seed(rank)
    return [
        (torch.randn(size, 4, generator=generator), torch.randn(size, generator=generator)) for _ in range(steps)
    ]


def joined(steps: int = 4) -> list[Batch]:
    """Return the batches of all processes as those of one."""
    each = [batches(rank, steps) for rank in range(dist.get_world_size())]
    return [tuple(map(torch.cat, zip(*parts, strict=True))) for parts in zip(*each, strict=True)]  # type: ignore[misc]


def loss_of(model: nn.Module, batch: Batch, with_spare: bool = False) -> torch.Tensor:
    return F.mse_loss(model(batch[0], with_spare).squeeze(1), batch[1])


def train(model: nn.Module, optim_wrapper: OptimWrapper, data: Iterable[Batch], with_spare: bool = False) -> None:
    for batch in data:
        with optim_wrapper.optim_context(model):
            loss = loss_of(model, batch, with_spare)
        optim_wrapper.update_params(loss)


def train_by_hand(
    model: nn.Module,
    optimizer: Optimizer,
    data: Iterable[Batch],
    clip: Callable[[list[nn.Parameter]], Any] = lambda params: None,
    with_spare: bool = False,
) -> None:
    for batch in data:
        loss_of(model, batch, with_spare).backward()
        clip(list(model.parameters()))
        optimizer.step()
        optimizer.zero_grad()


def full(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def difference(model: nn.Module, plain: nn.Module) -> float:
    """Return the largest difference of a parameter of the two models, looked up by name."""
    expected = dict(plain.named_parameters())
    found = {name.removeprefix("module."): full(param) for name, param in model.named_parameters()}
    assert found.keys() == expected.keys()
    return max((found[name] - expected[name]).abs().max().item() for name in expected)
