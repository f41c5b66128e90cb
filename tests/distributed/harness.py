"""Runs of train.py on several gloo processes of the CPU."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from optwrap.run import checkpoint

WORKER = Path(__file__).with_name("worker.py")
ENDED = 300  # seconds, of all jobs of one group


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run_ranks(size: int, jobs: Sequence[Sequence[str]], scratch: Path) -> list[tuple[int, str]]:
    """Run the command lines one after the other on `size` ranks; return exit code and stderr of each rank."""
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / f"jobs_{size}.json"
    path.write_text(json.dumps(list(zip(free_ports(len(jobs)), map(list, jobs), strict=True))))
    processes = []
    for rank in range(size):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1"}
        environment = os.environ | {key: str(value) for key, value in place.items()} | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(WORKER), str(path)]
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        )
    errors = [process.communicate(timeout=ENDED)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / "checkpoint.pt", torch.device("cpu"))["model"]


def result(folder: Path) -> dict[str, float]:
    return json.loads((folder / "result.json").read_text())
