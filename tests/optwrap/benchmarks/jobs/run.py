"""Whole jobs, from the command to the end of its process, through `train.py` and through what others use."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.optwrap.benchmarks.jobs.work import WORKS, Work
from tests.optwrap.benchmarks.tables import Table
from tests.optwrap.benchmarks.timing import Spread, Timer

ROOT = Path(__file__).parents[4]
ROUNDS = 3
HERE = "tests.optwrap.benchmarks.jobs"
PEERS = {"by hand": None, "Lightning": "lightning", "Accelerate": "accelerate", "MMEngine": "mmengine"}
"""Program -> the package that it needs."""


@dataclass(frozen=True)
class Seen:
    """Seconds to the first update and to the end, items a second in between, and the most memory in MiB."""

    first: float
    end: float
    rate: float
    memory: float


def run(timer: Timer) -> list[Table]:
    """Return a table of each job; programs take turns, `ROUNDS` times after one that warms up."""
    del timer  # each program runs as long as its job is
    data = os.environ.get("OPTWRAP_DATA", "data")
    works = [work for name, work in WORKS.items() if name != "mnist" or (ROOT / data / "MNIST").is_dir()]
    tables = []
    for work in works:
        tables.append(_table(work, data))
        print(
            f"\n{tables[-1].markdown()}", flush=True
        )  # each as it is there: all of them take a quarter of an hour
    return tables


def _table(work: Work, data: str) -> Table:
    programs = ["train.py", *(name for name, package in PEERS.items() if package is None or find_spec(package))]
    rounds: dict[str, list[Seen]] = {name: [] for name in programs}
    for number in range(ROUNDS + 1):
        for name in programs if number % 2 else reversed(programs):
            seen = measure(name, work, data)
            if number:
                rounds[name].append(seen)
    unit = "images/s" if work.items == 1 else "tokens/s"
    rows = [(name, *_cells(seen)) for name, seen in rounds.items()]
    note = (
        f"Medians of {ROUNDS} runs in turn, with quartiles, each a process of its own: {work.updates} updates of "
        f"{work.batch_size} samples, {work.evaluations} evaluations with a checkpoint each."
    )
    columns = ("program", "first update (s)", "end (s)", unit, "memory (MiB)")
    return Table(f"The job `{work.name}`", columns, rows, note)


def _cells(seen: list[Seen]) -> tuple[str, ...]:
    values = [[getattr(each, field) for each in seen] for field in ("first", "end", "rate", "memory")]
    spreads = [Spread.of(each) for each in values]
    return tuple(
        f"{spread.median:,.{digits}f} ({spread.low:,.{digits}f} to {spread.high:,.{digits}f})"
        for spread, digits in zip(spreads, (1, 1, 0, 0), strict=True)
    )


def measure(program: str, work: Work, data: str) -> Seen:
    """Run a program on a job, with data sets below the folder `data`.

    Raises:
        RuntimeError: it failed, or did something else.
    """
    with tempfile.TemporaryDirectory() as out:
        started = time.time()
        process = subprocess.Popen(
            [sys.executable, *_command(program, work, data, out)],
            cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        output, errors = process.communicate()
        ended = time.time()
    if process.returncode:
        raise RuntimeError(f"{program} on {work.name} ended with {process.returncode}:\n{errors[-2000:]}")
    stamps = stamps_of(output)
    if stamps["updates"] != work.updates:
        raise RuntimeError(f"{program} made {stamps['updates']} updates of {work.name}, not {work.updates}")
    rate = work.batch_size * work.items / stamps["gap"]
    return Seen(stamps["first"] - started, ended - started, rate, stamps["memory"])


def environment() -> dict[str, str]:
    """Return the environment of a program, which finds the library of this checkout."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": str(ROOT / "src")}  # as users run it, who keep what has been compiled


def stamps_of(output: str) -> dict[str, float]:
    """Return what a program's Stamps have printed."""
    seen: dict[str, float] = json.loads(
        next(line for line in output.splitlines() if line.startswith("STAMPS")).partition(" ")[2]
    )
    return seen


def _command(program: str, work: Work, data: str, out: str) -> list[str]:
    if program == "train.py":
        hook = f"+hooks.stamped={{_target_: {HERE}.ours.Stamped}}"
        places = (f"hydra.run.dir={out}", f"data_root={data}")
        return ["train.py", *work.overrides, hook, *places]
    if program == "Lightning":
        settings = (f"work={work.name}", f"folder={data}", f"out={out}", f"epochs={work.evaluations}")
        return ["-m", f"{HERE}.with_lightning", *settings]
    module = {"by hand": "by_hand", "Accelerate": "with_accelerate", "MMEngine": "with_mmengine"}[program]
    return ["-m", f"{HERE}.{module}", work.name, data, out]
