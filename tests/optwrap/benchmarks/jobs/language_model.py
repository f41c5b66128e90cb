"""A language model through `train.py` and a loop of nanoGPT's kind: tokens a second, and the loss on val."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.optwrap.benchmarks.jobs.run import HERE, ROOT, environment, stamps_of
from tests.optwrap.benchmarks.tables import Table
from tests.optwrap.benchmarks.timing import Spread, Timer

ROUNDS, UPDATES, BATCH = 3, 100, 8
DATA = {"length": 256, "val_share": 0.01, "test_share": 0.01, "cache": "outputs/tokens"}
MODEL = {"length": 256, "width": 192, "depth": 4, "heads": 3}
LR = 3e-3


def run(timer: Timer) -> list[Table]:
    """Return the table of both, in turn with the same model, data, batch size, optimizer and schedule."""
    del timer
    seen: dict[str, list[tuple[float, float]]] = {"train.py": [], "a loop like nanoGPT's": []}
    for number in range(ROUNDS + 1):
        for name, one in zip(seen, (_ours, _nano), strict=True):
            measured = one()
            if number:  # the first makes the files of tokens
                seen[name].append(measured)
    rows = []
    for name, pairs in seen.items():
        rate = Spread.of([tokens for tokens, _ in pairs])
        losses = ", ".join(f"{loss:.3f}" for _, loss in pairs[:1])
        rows.append((name, f"{rate.median:,.0f} ({rate.low:,.0f} to {rate.high:,.0f})", losses))
    windows = f"{BATCH} windows of {DATA['length']} bytes"
    note = f"{UPDATES} updates of {windows}, float32; medians of {ROUNDS} runs in turn."
    return [Table("A language model", ("program", "tokens/s", "loss on val (nats a byte)"), rows, note)]


def _ours() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as out:
        settings = {f"data.{key}": value for key, value in DATA.items()}
        settings |= {f"model.{key}": value for key, value in MODEL.items()}
        settings |= {"max_updates": UPDATES, "eval_every": UPDATES, "batch_size": BATCH, "hydra.run.dir": out}
        settings |= {"data.tokenizer": "bytes", "data.vocab_size": 257, "task.samples": 0}
        settings |= {"optim_wrapper.optimizer.lr": LR, "schedule": "warmup_cosine"}
        overrides = [f"{key}={value}" for key, value in settings.items()]
        hook = f"+hooks.stamped={{_target_: {HERE}.ours.Stamped}}"
        output = _output("train.py", "experiment=gpt_stdlib", *overrides, hook)
        loss = json.loads((Path(out) / "result.json").read_text())["val/loss"]
    return _rate(output), loss


def _nano() -> tuple[float, float]:
    options: dict[str, Any] = {"updates": UPDATES, "batch_size": BATCH, "lr": LR, "data": DATA, "model": MODEL}
    output = _output("-m", f"{HERE}.nano", json.dumps(options))
    loss = next(line for line in output.splitlines() if line.startswith("VAL")).split()[1]
    return _rate(output), float(loss)


def _output(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, text=True).stdout


def _rate(output: str) -> float:
    return BATCH * DATA["length"] / stamps_of(output)["gap"]  # type: ignore[operator]
