"""Kill training runs with SIGKILL at random points, resume them, and compare with the uninterrupted run.

    python tests/optwrap/resume/kill_and_resume.py [points=30] [seed=0] [configurations=plain,strategies,...]

Prints a line a point; exit code 1 where one run is not identical. Half of the runs load their data with two
workers, half in the training process; half are resumed by their folder, half by resume=auto. Every run is a
process of its own, forked from one that has imported the libraries.
"""

import importlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

SMALL = "model.width=8"  # float16 is slow on many CPUs
CONFIGURATIONS = {
    "plain": ["epochs=8", "checkpoint.every=9", "log_every=5"],
    "amp_accum_clip": [
        *("optim_wrapper=amp_accum_clip", "optim_wrapper.loss_scale={init_scale: 1024, growth_interval: 8}"),
        *("schedule=one_cycle", "epochs=8", "checkpoint.every=5", "eval_every=12", "log_every=4"),
        SMALL,
    ],
    "strategies": [
        *("optim_wrapper=[adamw,ema,sam,amp,accum2,clip]", "+optim_wrapper.freeze.stem={epochs: 2}", "epochs=12"),
        *("hooks=[early_stopping,update_ratio]", "hooks.early_stopping.patience=2"),
        *("hooks.early_stopping.min_delta=0.02", "checkpoint.every=5", "eval_every=12", "log_every=4"),
        *(SMALL, "checkpoint.asynchronous=false"),
    ],
    "gan": [
        *("experiment=quick/gan", "task.classifier_epochs=1", "max_updates=60", "checkpoint.every=7"),
    ],
}
COMMON = ["device=cpu", "deterministic=true"]


def main(points: int = 30, seed: int = 0, configurations: str = ",".join(CONFIGURATIONS)) -> bool:
    """Return whether every resumed run ended as the uninterrupted one."""
    for library in ("torchvision", "sklearn.datasets", "matplotlib.figure", "optwrap.run.saver", "train"):
        importlib.import_module(library)
    rng = random.Random(seed)
    identical = 0
    names = configurations.split(",")
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            reference = Path(work) / name
            finish(name, reference, "num_workers=0")
            for point in range(points):
                folder = Path(work) / f"{name}-{point}"
                found, place = killed_and_resumed(name, folder, reference, point, rng)
                identical += not found
                print(f"{name} {point + 1}/{points}: killed {place}: {_shown(found)}", flush=True)
                shutil.rmtree(folder)
    print(f"{identical} of {points * len(names)} identical")
    return identical == points * len(names)


def killed_and_resumed(
    name: str, folder: Path, reference: Path, point: int, rng: random.Random
) -> tuple[list[str], str]:
    """Kill a run somewhere, resume it; return what differs from the reference, and where it was killed."""
    workers = f"num_workers={2 * (point % 2)}"
    seconds = rng.uniform(0, training_seconds(reference))
    while not killed(start(name, folder, workers), folder, seconds):
        shutil.rmtree(folder)  # it was faster than the reference
        seconds *= 0.7
    kept = sorted(path.name for path in (folder / "checkpoints").glob("update_*.pt"))
    finish(name, folder, workers, "resume=auto" if point // 2 % 2 or not kept else f"resume={folder}")
    found = importlib.import_module("compare").differences(reference, folder)
    return found, f"after {kept[-1] if kept else 'no checkpoint'}"


def killed(process: BaseProcess, folder: Path, seconds: float) -> bool:
    """Kill a run so many seconds after its loop began; return False where it had ended by then."""
    while not (folder / "metrics.csv").exists() and process.is_alive():
        time.sleep(0.005)
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -9


def finish(name: str, folder: Path, *overrides: str) -> None:
    """Run to the end."""
    process = start(name, folder, *overrides)
    process.join()
    if process.exitcode:
        log = (folder / "train.log").read_text()[-3000:]
        raise RuntimeError(f"{name} {overrides} ended with {process.exitcode}:\n{log}")


def start(name: str, folder: Path, *overrides: str) -> BaseProcess:
    """Start `python train.py` with these overrides."""
    command = [*CONFIGURATIONS[name], *COMMON, *overrides, f"hydra.run.dir={folder}"]
    process = multiprocessing.get_context("fork").Process(target=_program, args=(command,))
    process.start()
    return process


def _program(command: list[str]) -> None:
    os.chdir(ROOT)
    sys.argv[:] = ["train.py", *command]
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        importlib.import_module("train").main()


def _shown(found: list[str], most: int = 5) -> str:
    return f"{len(found)} differences, {'; '.join(found[:most])}" if found else "identical"


def training_seconds(folder: Path) -> float:
    """Return how long the loop of a finished run took, evaluations included."""
    last = (folder / "metrics.csv").read_text().splitlines()
    return float(last[-1].split(",")[last[0].split(",").index("seconds")])


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    numbers = {key: int(value) for key, value in given.items() if key != "configurations"}
    names = {key: value for key, value in given.items() if key == "configurations"}
    sys.exit(0 if main(**numbers, **names) else 1)
