"""Runs of train.py on several gloo processes of the CPU."""

import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from optwrap.checkpoint import files as checkpoint
from optwrap.optim.named_state import evaluated_weights
from tests.optwrap import forking

WORKER = Path(__file__).with_name("worker.py")
ENDED = 600  # seconds, of all jobs of one group
GRACE = 30  # seconds, once one has failed


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at, below those that the system gives to outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            found.append(port)
    return found


def run_ranks(size: int, jobs: Sequence[Sequence[str]], scratch: Path) -> list[tuple[int, str]]:
    """Run the command lines one after the other on `size` ranks; return exit code and stderr of each rank."""
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / f"jobs_{size}.json"
    path.write_text(json.dumps(list(zip(free_ports(len(jobs)), map(list, jobs), strict=True))))
    processes = [_start(rank, size, path, scratch / f"rank_{rank}.txt") for rank in range(size)]
    give_up = time.monotonic() + ENDED
    while time.monotonic() < give_up and any(process.poll() is None for process in processes):
        time.sleep(0.05)
        if any(process.poll() for process in processes):  # the others learn of it, or wait for ever
            give_up = min(give_up, time.monotonic() + GRACE)
    for process in processes:
        process.kill()
    ends = [process.wait() for process in processes]
    return [(code, (scratch / f"rank_{rank}.txt").read_text()) for rank, code in enumerate(ends)]


def _start(rank: int, size: int, jobs: Path, errors: Path) -> "subprocess.Popen[bytes]":
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1"}
    environment = os.environ | {key: str(value) for key, value in place.items()} | {"OMP_NUM_THREADS": "1"}
    with errors.open("wb") as file:
        return subprocess.Popen(
            [forking.python(), str(WORKER), str(jobs)], env=environment, stdout=subprocess.DEVNULL, stderr=file
        )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights, and as `evaluated.NAME` those that are evaluated, where they are others."""
    state = checkpoint.load(folder / "checkpoint.pt", torch.device("cpu"))
    evaluated = evaluated_weights(state["optim_wrapper"])
    return state["model"] | {f"evaluated.{name}": value for name, value in evaluated.items()}


def result(folder: Path) -> dict[str, float]:
    return json.loads((folder / "result.json").read_text())
