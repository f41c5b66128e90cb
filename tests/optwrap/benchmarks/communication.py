"""What an update sends between processes: measured on this machine, computed for many.

Gloo's processes talk over the loopback interface, whose counters are read around some updates: what is counted is
what was sent, whatever anybody believes of the algorithm.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from optwrap.optim import OptimWrapper
from tests.optwrap.benchmarks.tables import Table
from tests.optwrap.benchmarks.timing import Timer

_WIDTH, _LAYERS = 1024, 8
_PARAMETERS = _LAYERS * _WIDTH * (_WIDTH + 1)
_UPDATES = 5
_CASES = [("ddp", 1), ("ddp", 4), ("fsdp2", 1), ("fsdp2", 4)]
_LOOPBACK = Path("/sys/class/net/lo/statistics/tx_bytes")


def volume(strategy: str, ranks: int, counts: int, replicas: int = 1) -> float:
    """Return the numbers that a rank sends in an update of `counts` micro-batches, for each parameter.

    A ring all-reduce among n sends 2 (n - 1) / n, an all-gather or a reduce-scatter half of that. FSDP2 gathers
    the weights for each forward and each backward pass; hybrid sharding then all-reduces the shards' gradients
    between `replicas` groups.

    >>> volume("ddp", ranks=2, counts=4), volume("fsdp2", ranks=2, counts=1)
    (1.0, 1.5)
    """
    if strategy == "ddp":
        return 2 * (ranks - 1) / ranks
    shards = ranks // replicas
    passes = 2 * counts + 1  # gathers, and one reduce-scatter
    return passes * (shards - 1) / shards + 2 * (replicas - 1) / replicas / shards


def run(timer: Timer) -> list[Table]:
    """Measure 1 and 2 processes, and compute what 8, 64 and 1,024 would send."""
    return [_measured(timer), _computed()]


def _measured(timer: Timer) -> Table:
    rows = []
    for strategy, counts in _CASES:
        alone, pair = (_measure(strategy, counts, ranks, timer.device.type) for ranks in (1, 2))
        sent = pair["bytes"] / 4 / _PARAMETERS
        step = f"{1000 * alone['seconds']:.0f}", f"{1000 * pair['seconds']:.0f}"
        rows.append((strategy, str(counts), f"{sent:.3f}", f"{volume(strategy, 2, counts):.3f}", *step))
    title = f"An update of {_PARAMETERS:,} parameters on 2 processes: numbers that a rank sends, a parameter"
    columns = ("strategy", "micro-batches", "measured", "computed", "ms, 1 process", "ms, 2 processes")
    return Table(title, columns, rows)


def _computed() -> Table:
    cases = [("ddp", 1, 1), ("ddp", 4, 1), ("fsdp2", 1, 1), ("fsdp2", 4, 1), ("fsdp2, groups of 8", 1, 8)]
    rows = []
    for name, counts, group in cases:
        strategy = name.partition(",")[0]
        sent = [
            volume(strategy, ranks, counts, replicas=ranks // group if group > 1 else 1) for ranks in (8, 64, 1024)
        ]
        rows.append((name, str(counts), *(f"{each:.3f}" for each in sent)))
    columns = ("strategy", "micro-batches", "8 devices", "64", "1,024")
    return Table("Computed: numbers that a rank sends in an update, a parameter", columns, rows)


def _measure(strategy: str, counts: int, ranks: int, device: str) -> dict[str, float]:
    """Return the bytes that a rank sent, and the seconds, of one update."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        command = [
            sys.executable,
            "-m",
            "tests.optwrap.benchmarks.communication",
            strategy,
            str(counts),
            str(ranks),
        ]
        processes = [
            subprocess.Popen(
                [*command, device, str(rank), str(store)],
                stdout=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            for rank in range(ranks)
        ]
        outputs = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            raise RuntimeError(f"communication: {strategy} on {ranks} processes failed")
        return json.loads(outputs[0])


def _rank(strategy: str, counts: int, ranks: int, device: str, rank: int, store: str) -> None:
    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(init_method=f"file://{store}", rank=rank, world_size=ranks)
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.Tanh()) for _ in range(_LAYERS)]
    plain = nn.Sequential(*layers).to(device)
    model = _sharded(plain) if strategy == "fsdp2" else DistributedDataParallel(plain)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3), counts, {"max_norm": 1.0})
    inputs = torch.randn(8, _WIDTH, device=device)

    def update() -> None:
        for _ in range(counts):
            with wrapper.optim_context(model):
                loss = model(inputs).square().mean()
            wrapper.update_params(loss)

    for _ in range(3):  # DDP makes its buckets anew after the first
        update()
    dist.barrier()
    sent, start = int(_LOOPBACK.read_text()), time.perf_counter()
    for _ in range(_UPDATES):
        update()
    dist.barrier()
    seconds = (time.perf_counter() - start) / _UPDATES
    sent = int(_LOOPBACK.read_text()) - sent
    if rank == 0:
        print(json.dumps({"bytes": sent / _UPDATES / ranks, "seconds": seconds}), flush=True)
    dist.barrier()
    os._exit(0)  # gloo's threads, joined too late now and then, would abort the process


def _sharded(model: nn.Sequential) -> nn.Module:
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    return model


if __name__ == "__main__":
    _rank(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]), sys.argv[6])
