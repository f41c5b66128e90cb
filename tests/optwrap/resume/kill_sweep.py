"""Kill a sweep of 12 jobs with SIGKILL at random moments, call it again, and compare with the uninterrupted one.

    python tests/optwrap/resume/kill_sweep.py [points=10] [seed=0]

Prints a line a point; exit code 1 where a job is missing, was finished and run again, or ended otherwise.
"""

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(Path(__file__).parent))

SWEEP = [
    *("optim_wrapper=[sgd],[sgd,amp],[sgd,amp,accum2],[sgd,clip]", "seed=1,2,3", "epochs=2"),
    *("checkpoint.every=3", "deterministic=true", "device=cpu"),
]


def main(points: int = 10, seed: int = 0) -> bool:
    """Return whether every sweep that was killed ended as the uninterrupted one."""
    rng = random.Random(seed)
    identical = 0
    with tempfile.TemporaryDirectory() as work:
        reference = Path(work) / "reference"
        started = time.monotonic()
        start(reference).wait()
        seconds = time.monotonic() - started
        for point in range(points):
            folder = Path(work) / str(point)
            found, done = killed_and_resumed(folder, reference, rng.uniform(0.2, 0.9) * seconds)
            identical += not found
            print(f"{point + 1}/{points}: killed after {done} jobs: {found[:5] or 'identical'}", flush=True)
            shutil.rmtree(folder)
    print(f"{identical} of {points} identical")
    return identical == points


def killed_and_resumed(folder: Path, reference: Path, seconds: float) -> tuple[list[str], int]:
    """Kill a sweep after so many seconds, finish it; return what is wrong, and how many jobs had finished."""
    process = start(folder)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = [name for name, record in records(folder).items() if record["status"] == "finished"]
    code = start(folder).wait()
    wrong = [f"exit code {code}"] if code else []
    now = records(folder)
    wrong += [f"{name} is missing" for name in records(reference) if name not in now]
    wrong += [f"{name} ran again" for name in finished if now[name]["attempts"] != 1]
    compare = importlib.import_module("compare")
    for name in now:
        wrong += [f"{name}: {each}" for each in compare.differences(reference / name, folder / name)]
    return wrong, len(finished)


def records(folder: Path) -> dict[str, dict]:
    """Return the records of a sweep's jobs by folder."""
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/record.json")}


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the sweep in a process group of its own."""
    command = [sys.executable, "train.py", "-m", *SWEEP, f"hydra.sweep.dir={folder}"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=quiet, start_new_session=True)


if __name__ == "__main__":
    given = {key: int(value) for key, value in (argument.split("=", 1) for argument in sys.argv[1:])}
    sys.exit(0 if main(**given) else 1)
