"""Kill one process of a data-parallel run with SIGKILL at a random point; torchrun starts all again; compare.

    python tests/optwrap/distributed/kill_rank.py [points=10] [seed=0] [strategy=ddp] [ranks=2]
                                          [shards=false|true|background]

Prints a line a point; exit code 1 where one run is not identical to the uninterrupted one, to the bit.
"""

import importlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests" / "optwrap" / "resume"))

RUN = [
    *("optim_wrapper=amp_accum_clip", "schedule=one_cycle", "epochs=6", "checkpoint.every=5", "eval_every=12"),
    *("log_every=4", "device=cpu", "deterministic=true", "model.width=8"),  # float16 is slow on many CPUs
]


SHARDS = {
    "false": [],
    "true": ["checkpoint.sharded=true"],
    "background": ["checkpoint.sharded=true", "checkpoint.asynchronous=true"],
}


def main(points: int = 10, seed: int = 0, strategy: str = "ddp", ranks: int = 2, shards: str = "false") -> bool:
    """Return whether every run ended as the uninterrupted one."""
    rng = random.Random(seed)
    identical = 0
    run = [*RUN, *SHARDS[shards], f"strategy={strategy}"]
    with tempfile.TemporaryDirectory() as work:
        reference = Path(work) / "reference"
        finish(start(reference, run, ranks), reference)
        for point in range(points):
            folder = Path(work) / str(point)
            place = killed_and_restarted(folder, reference, run, ranks, rng)
            found = importlib.import_module("compare").differences(reference, folder)
            identical += not found
            shown = f"{len(found)} differences, {'; '.join(found[:5])}" if found else "identical"
            print(f"{strategy} {point + 1}/{points}: killed {place}: {shown}", flush=True)
            shutil.rmtree(folder)
    print(f"{identical} of {points} identical")
    return identical == points


def killed_and_restarted(folder: Path, reference: Path, run: list[str], ranks: int, rng: random.Random) -> str:
    """Kill a rank somewhere in the loop; return which one, and where."""
    seconds = rng.uniform(0, training_seconds(reference))
    while True:
        process = start(folder, run, ranks)
        while not (folder / "metrics.csv").exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(seconds)
        rank = rng.randrange(ranks)
        workers = ranks_of(process.pid)
        if rank in workers and not (folder / "result.json").exists():
            os.kill(workers[rank], 9)
            kept = sorted(path.name for path in (folder / "checkpoints").glob("update_*.pt"))
            finish(process, folder)
            if "exitcode: -9" in (folder / "output.txt").read_text():
                break
        process.wait()  # it was faster than the reference
        shutil.rmtree(folder)
        seconds *= 0.7
    # The other rank may have written the result before torchrun ended it.
    said = (folder / "train.log").read_text()
    assert "Going on from" in said or "this run is finished" in said or not kept
    return f"rank {rank} after {kept[-1] if kept else 'no checkpoint'}"


def start(folder: Path, run: list[str], ranks: int) -> "subprocess.Popen[bytes]":
    """Start the run under torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--max-restarts=3"]
    command = [*torchrun, "--monitor-interval=0.1", "train.py", *run]
    folder.mkdir(parents=True)
    with (folder / "output.txt").open("wb") as output:
        return subprocess.Popen(
            [*command, f"hydra.run.dir={folder}"], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )


def finish(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Wait for the run's end."""
    if process.wait():
        raise RuntimeError(f"it ended with {process.returncode}:\n{(folder / 'output.txt').read_text()[-5000:]}")


def ranks_of(torchrun: int) -> dict[int, int]:
    """Return the process of each rank that torchrun has started."""
    found = {}
    children = subprocess.run(["pgrep", "-P", str(torchrun)], capture_output=True, text=True, check=False)
    for pid in map(int, children.stdout.split()):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        found |= {int(each[5:]): pid for each in environment if each.startswith(b"RANK=")}
    return found


def training_seconds(folder: Path) -> float:
    """Return how long the loop of a finished run took, evaluations included."""
    last = (folder / "metrics.csv").read_text().splitlines()
    return float(last[-1].split(",")[last[0].split(",").index("seconds")])


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    words = {key: value for key, value in given.items() if key in ("strategy", "shards")}
    numbers = {key: int(value) for key, value in given.items() if key not in words}
    sys.exit(0 if main(**numbers, **words) else 1)
