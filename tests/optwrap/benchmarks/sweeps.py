"""A sweep of many jobs: when the first begins, what the process that drives it holds; and the report on many."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optwrap.sweep.records import Record, write_record
from tests.optwrap.benchmarks.tables import Table
from tests.optwrap.benchmarks.timing import Timer

ROOT = Path(__file__).parents[3]
JOBS = 200
RECORDS = 1000
TINY = (
    *("data=fake", "data.size=8", "data.eval_size=4", "data.image_size=8", "batch_size=4", "max_updates=1"),
    *("device=cpu", "threads=1"),
)


def run(timer: Timer) -> list[Table]:
    """Return the tables of a grid of tiny jobs, and of the report on invented records."""
    del timer  # the whole is timed once
    with tempfile.TemporaryDirectory() as folder:
        return [_driving(Path(folder) / "sweep"), _reporting(Path(folder) / "records")]


def _driving(folder: Path) -> Table:
    rows = []
    with _sweep(folder) as process:
        started = time.perf_counter()
        for count in (0, 10, 50, 100, 150, JOBS - 1):
            _wait(process, folder, count)
            seconds = f"{time.perf_counter() - started:.1f}"
            rows.append((str(count), seconds, f"{_memory(process):.0f}", str(_files(process))))
    title = f"A sweep of {JOBS} tiny jobs in one process: what it holds when some have finished"
    note = "0: when the first begins, its imports included."
    return Table(title, ("jobs finished", "seconds", "memory (MiB)", "open files"), rows, note)


@contextmanager
def _sweep(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "train.py", "-m", f"seed=range(0,{JOBS})", f"hydra.sweep.dir={folder}", *TINY]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
        process.wait()
    finally:
        process.kill()


def _wait(process: subprocess.Popen[bytes], folder: Path, finished: int) -> None:
    """Wait until so many jobs have finished; of none, until the first has begun."""
    name, count = ("result.json", finished) if finished else ("record.json", 1)
    while len(list(folder.glob(f"*/{name}"))) < count:
        if process.poll() is not None:
            raise RuntimeError(f"the sweep has ended with {process.returncode}")
        time.sleep(0.02)


def _memory(process: subprocess.Popen[bytes]) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _files(process: subprocess.Popen[bytes]) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def _reporting(folder: Path) -> Table:
    rows = []
    for settings, label in ((RECORDS // 5, "200, of 5 seeds each"), (RECORDS, "1,000, as of a search")):
        place = folder / str(settings)
        _invent(place, settings)
        started = time.perf_counter()
        subprocess.run([sys.executable, "report.py", place], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - started
        size = (place / "report" / "index.html").stat().st_size / 1000
        rows.append((label, f"{seconds:.1f}", f"{size:.0f}"))
    return Table(f"The report on {RECORDS} records", ("settings", "seconds", "page (KB)"), rows)


def _invent(folder: Path, settings: int) -> None:
    """Write what the jobs of a sweep leave, with a curve of 20 evaluations each."""
    for number in range(RECORDS):
        which, seed = number % settings, number // settings
        job = folder / f"{number:012x}"
        job.mkdir(parents=True)
        told = [
            f"optim_wrapper.optimizer.lr={1e-4 * 1.01**which}",
            f"model={'ab'[which % 2]}",
            f"epochs={which % 7}",
        ]
        accuracy = 0.5 + which % 13 / 40 + seed / 1000
        record = Record().begun([*told, f"seed={seed}"], "val/accuracy", "call")
        write_record(job, record.ended("finished", metric=accuracy))
        result = {"val/accuracy": accuracy, "test/accuracy": accuracy, "seconds": 1.0, "seed": seed}
        result |= {"objective": "val/accuracy", "higher_is_better": True}
        (job / "result.json").write_text(json.dumps(result))
        curve = "".join(f"val,{update},{accuracy * update / 20}\n" for update in range(1, 21))
        (job / "metrics.csv").write_text(f"split,update,accuracy\n{curve}")
