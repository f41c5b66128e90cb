"""Kill training runs with SIGKILL at random points, resume them, and compare with the uninterrupted run.

    python tests/resume/kill_and_resume.py [points=30] [seed=0] [configurations=plain,amp_accum_clip,gan]

Prints a line a point; exit code 1 where one run is not identical. Half of the runs load their data with two
workers, half in the training process; half are resumed by their folder, half by resume=auto.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from compare import differences

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = {
    "plain": ["epochs=8", "checkpoint.every=9", "log_every=5"],
    "amp_accum_clip": [
        *("optim_wrapper=amp_accum_clip", "optim_wrapper.loss_scale={init_scale: 1024, growth_interval: 8}"),
        *("schedule=one_cycle", "epochs=8", "checkpoint.every=5", "eval_every=12", "log_every=4"),
    ],
    "gan": ["experiment=quick/gan", "task.classifier_epochs=1", "max_updates=60", "checkpoint.every=7"],
}
COMMON = ["device=cpu", "deterministic=true"]


def main(points: int = 30, seed: int = 0, configurations: str = ",".join(CONFIGURATIONS)) -> bool:
    """Return whether every resumed run ended as the uninterrupted one."""
    rng = random.Random(seed)
    identical = 0
    names = configurations.split(",")
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            reference = Path(work) / name
            finish(name, reference, "num_workers=0")
            length = training_seconds(reference)
            for point in range(points):
                folder = Path(work) / f"{name}-{point}"
                found, update = killed_and_resumed(name, folder, reference, point, rng.uniform(0, length))
                identical += not found
                print(f"{name} {point + 1}/{points}: killed {update}: {_shown(found)}", flush=True)
                shutil.rmtree(folder)
    print(f"{identical} of {points * len(names)} identical")
    return identical == points * len(names)


def killed_and_resumed(
    name: str, folder: Path, reference: Path, point: int, delay: float
) -> tuple[list[str], str]:
    """Kill a run `delay` seconds after its loop began, resume it; return what differs, and where it was killed."""
    workers = f"num_workers={2 * (point % 2)}"
    with start(name, folder, workers) as program:
        while not (folder / "metrics.csv").exists() and program.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        program.kill()
    kept = sorted(path.name for path in (folder / "checkpoints").glob("update_*"))
    where = f"after {kept[-1] if kept else 'no checkpoint'}"
    resume = "resume=auto" if point // 2 % 2 or not kept else f"resume={folder}"
    finish(name, folder, workers, resume)
    return differences(reference, folder), where


def finish(name: str, folder: Path, *overrides: str) -> None:
    """Run to the end."""
    program = start(name, folder, *overrides)
    _, error = program.communicate()
    if program.returncode:
        raise RuntimeError(f"{name} {overrides} ended with {program.returncode}:\n{error[-3000:]}")


def start(name: str, folder: Path, *overrides: str) -> "subprocess.Popen[str]":
    """Start `python train.py` in a process of its own."""
    command = [*CONFIGURATIONS[name], *COMMON, *overrides, f"hydra.run.dir={folder}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "train.py", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _shown(found: list[str], most: int = 5) -> str:
    return f"{len(found)} differences, {'; '.join(found[:most])}" if found else "identical"


def training_seconds(folder: Path) -> float:
    """Return how long the loop of a finished run took, evaluations included."""
    last = (folder / "metrics.csv").read_text().splitlines()
    return float(last[-1].split(",")[last[0].split(",").index("seconds")])


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    numbers = {key: int(value) for key, value in given.items() if key != "configurations"}
    sys.exit(0 if main(**numbers, **{k: v for k, v in given.items() if k == "configurations"}) else 1)
