"""The seconds of a training with one thread, those that suit it, and all, alone and beside busy processes."""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.optwrap.benchmarks.tables import Table
from tests.optwrap.benchmarks.timing import Timer

ROOT = Path(__file__).parents[3]
JOBS = {
    "the default": ("max_updates=160",),
    "ResNet-18": (
        *("data=fake", "data.size=256", "data.eval_size=16", "model=resnet18", "batch_size=16"),
        *("max_updates=16", "eval_every=16"),
    ),
}
BUSY = (0, 2)
ROUNDS = 3
WAYS = {"one": "threads=1", "as suits": "threads=null", "all": f"threads={os.cpu_count()}"}
_SPINS = "while True: pass"


def run(timer: Timer) -> list[Table]:
    """Return a table of the jobs, in turn with each number of threads."""
    del timer  # each run is timed by itself
    rows = []
    for busy in BUSY:
        for name, job in JOBS.items():
            with _busy(busy):
                seen = [{way: _train((*job, option)) for way, option in WAYS.items()} for _ in range(ROUNDS)]
            cells = (_cell([each[way] for each in seen]) for way in WAYS)
            rows.append((name, str(busy), *cells))
    columns = ("job", "busy processes", *(f"{way}: wall, CPU (s), threads" for way in WAYS))
    note = (
        f"Seconds of training with evaluations, CPU time of the whole process; medians of {ROUNDS} runs in turn."
    )
    return [Table("Threads on the CPU", columns, rows, note)]


def _train(overrides: tuple[str, ...]) -> tuple[float, float, int]:
    """Return the seconds of a training, the CPU time of its process, and its threads."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "train.py", "device=cpu", f"hydra.run.dir={out}/run", *overrides]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        result = json.loads(Path(out, "run", "result.json").read_text())
        (start,) = json.loads(Path(out, "run", "provenance.json").read_text())["starts"]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result["seconds"], cpu, start["threads"]


def _cell(runs: list[tuple[float, float, int]]) -> str:
    wall, cpu = (statistics.median(column) for column in list(zip(*runs, strict=True))[:2])
    threads = sorted({each[2] for each in runs})
    return f"{wall:.1f}, {cpu:.1f}, {' or '.join(map(str, threads))}"


@contextmanager
def _busy(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", _SPINS]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
