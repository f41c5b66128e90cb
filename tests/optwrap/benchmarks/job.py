"""Where the time of `train.py` goes: forward and backward passes, the step, loading, and all the rest."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch

from tests.optwrap.benchmarks.tables import Table
from tests.optwrap.benchmarks.timing import Timer

_JOBS = [
    "",
    "optim_wrapper=amp_accum",
    "data=fake data.size=512 model=resnet18 batch_size=16 epochs=1",
]
_PARTS = ("forward", "backward", "step", "loading", "checkpoints", "rest")
_RUNS = 3


def run(timer: Timer) -> list[Table]:
    """Run each job several times, with a stopwatch at the parts of `train.py`."""
    rows = []
    for job in _JOBS:
        shares = [_shares(timer, job) for _ in range(_RUNS)]
        of = {part: statistics.median(share[part] for share in shares) for part in (*_PARTS, "micro-batch")}
        both = of["forward"] + of["backward"]
        each = (f"{of[part]:.1%}" for part in _PARTS)
        rows.append((f"`{job}`" if job else "default", f"{of['micro-batch'] * 1e3:.2f} ms", f"{both:.0%}", *each))
    columns = ("job", "a micro-batch", "forward + backward", *_PARTS)
    note = (
        f"Medians of {_RUNS} runs, evaluations left out. Forward: with loss and metrics. Step: with zeroing. "
        "Rest: records, schedule, signals. On CUDA each part waits for the device, which a run does not."
    )
    return [Table("Where the time of `train.py` goes", columns, rows, note)]


def _shares(timer: Timer, job: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        options = [f"device={timer.device}", f"hydra.run.dir={folder}", "log_level=ERROR"]
        command = [sys.executable, "-m", "tests.optwrap.benchmarks.job", *job.split(), *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


class _Stopwatch:
    """Seconds by part; a part inside another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.count = 0
        self._parts = ["rest"]
        self._since = time.perf_counter()

    def enter(self, part: str) -> None:
        """Begin a part. In an evaluation everything belongs to it."""
        self._lap()
        self._parts.append("evaluation" if self._parts[-1] == "evaluation" else part)

    def leave(self) -> None:
        """End the part that was begun last."""
        self._lap()
        self._parts.pop()

    def restart(self) -> None:
        """Forget what came before the first micro-batch was done: start and warm-up."""
        self.seconds.clear()
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Count no more, unless an evaluation's batches have come to their end."""
        if self._parts[-1] != "evaluation":
            self._lap()
            self._parts.append("evaluation")

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time counted."""

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return wrapper

    def _lap(self) -> None:
        _wait_for_device()
        now = time.perf_counter()
        self.seconds[self._parts[-1]] += now - self._since
        self._since = now


def _wait_for_device() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def main() -> None:
    """Run `train.py` with this program's arguments; print its parts' shares and the seconds of a micro-batch."""
    import train
    from optwrap.optim import OptimWrapper
    from optwrap.run import evaluation
    from optwrap.run.loaders import Loaders
    from optwrap.run.saver import Saver
    from optwrap.vision.task import ClassificationTask

    watch = _Stopwatch()
    own = Loaders.training

    def training(*args: Any) -> Iterator[Any]:
        items = own(*args)
        load = watch.timed("loading", next)
        while (batch := load(items, None)) is not None:
            yield batch
        watch.stop()

    def train_step(*args: Any) -> Any:
        stats = step(*args)
        watch.count += 1
        if watch.count == 1:
            watch.restart()
        return stats

    step = watch.timed("forward", ClassificationTask.train_step)
    Loaders.training = training  # type: ignore[method-assign]
    ClassificationTask.train_step = train_step  # type: ignore[method-assign]
    evaluation.evaluate = watch.timed("evaluation", evaluation.evaluate)
    for owner, name, part in (
        (OptimWrapper, "backward", "backward"),
        (OptimWrapper, "step", "step"),
        (OptimWrapper, "zero_grad", "step"),
        (Saver, "save", "checkpoints"),
        (Saver, "keep_if_best", "checkpoints"),
    ):
        setattr(owner, name, watch.timed(part, getattr(owner, name)))
    train.main()
    seconds = {part: watch.seconds[part] for part in _PARTS}
    total = sum(seconds.values())
    shares = {part: value / total for part, value in seconds.items()}
    print(json.dumps(shares | {"micro-batch": total / (watch.count - 1)}))


if __name__ == "__main__":
    main()
