"""Time the wrappers beside plain PyTorch and other libraries: `python -m tests.optwrap.benchmarks [NAME ...]`.

Cases run in turn, round after round, so that a busy machine slows all of them alike. A ratio is the median over
rounds of (case / baseline) with its quartiles. Tables go to the terminal and, with the machine's description, to
`outputs/benchmarks/` as Markdown and JSON. The libraries to compare with: `pip install -e ".[bench]"`; what is not
installed is left out, by name.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch

from tests.optwrap.benchmarks import (
    averaging,
    build,
    communication,
    guard,
    iteration,
    job,
    memory,
    scaling,
    steps,
    sweeps,
    threads,
)
from tests.optwrap.benchmarks.jobs import language_model
from tests.optwrap.benchmarks.jobs import run as jobs
from tests.optwrap.benchmarks.machine import describe
from tests.optwrap.benchmarks.tables import Table
from tests.optwrap.benchmarks.timing import Timer

BENCHMARKS: dict[str, Callable[[Timer], list[Table]]] = {
    "build": build.run,
    "step": steps.run_step,
    "clip": steps.run_clip,
    "amp": steps.run_amp,
    "averaging": averaging.run,
    "iteration": iteration.run,
    "guard": guard.run,
    "scaling": scaling.run,
    "memory": memory.run,
    "communication": communication.run,
    "job": job.run,
    "sweeps": sweeps.run,
    "threads": threads.run,
    "jobs": jobs.run,
    "language_model": language_model.run,
}


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.optwrap.benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each row of a table (default: 10)")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count only this thread's time: with --threads 1 on a busy machine"
    )
    parser.add_argument("--folder", type=Path, default=Path("outputs/benchmarks"), help="where the tables go")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no CUDA device here")
    torch.set_num_threads(args.threads)
    clock = time.thread_time if args.cpu_time else time.perf_counter
    timer = Timer(torch.device(args.device), args.seconds, clock)
    machine = describe(timer)
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), flush=True)
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or BENCHMARKS:
        tables = BENCHMARKS[name](timer)
        text = "\n\n".join(table.markdown() for table in tables)
        print(f"\n{text}", flush=True)
        record = {"machine": machine, "at": datetime.now().isoformat(timespec="seconds"), "seconds": args.seconds}
        content = record | {"tables": [table.as_dict() for table in tables]}
        path = args.folder / f"{name}_{args.device}"
        path.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
        about = "\n".join(f"- {key}: {value}" for key, value in machine.items())
        path.with_suffix(".md").write_text(f"{about}\n\n{text}\n")


if __name__ == "__main__":
    main()
