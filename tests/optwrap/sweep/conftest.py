"""A program without torch and with few keys: a whole sweep takes a second. And a way to call it as a user does."""

import json
import logging
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.optwrap import forking

CONF = Path(__file__).parents[3] / "conf"

# Few keys, since Hydra takes longer to compose the project's own than a sweep of this program lasts.
CONFIG = """
defaults: [_self_, override hydra/job_logging: app, override hydra/sweeper: grid]
seed: 0
epochs: 20
batch_size: 64
resume: null
log_level: INFO
objective: val/accuracy
log_every: 50
logger: csv
data: {root: data}
sweep: {stale: warn}
"""

# Notes each start of a job in ran.txt; `seed` chooses what becomes of it.
SCRIPT = """
import json, os, signal, time
from pathlib import Path
from hydra.core.hydra_config import HydraConfig
from optwrap import program

@program.main(config_name="config", config_path={conf!r})
def main(cfg):
    folder = Path(HydraConfig.get().runtime.output_dir)
    with open({ran!r}, "a") as file:
        file.write(f"{{cfg.seed}} {{cfg.epochs}}\\n")
    fault = Path({faults!r}) / str(cfg.seed)
    if fault.exists():
        kind = fault.read_text()
        if kind == "raise":
            raise ZeroDivisionError("seed of trouble")
        if kind == "exit":
            raise SystemExit(0)
        if kind == "nan":
            folder.joinpath("result.json").write_text(
                '{{"val/accuracy": NaN, "objective": "val/accuracy", "higher_is_better": true}}')
            return float("nan")
        if kind == "lines":
            error = ValueError("first\\nsecond")
            error.add_note("a note")
            raise error
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "wait":
            time.sleep(60)
    time.sleep(float(os.environ.get("JOB_SECONDS", 0)))
    metric = cfg.epochs + cfg.seed / 10
    result = {{"val/accuracy": metric, "test/loss": 1 / metric, "seconds": 1.0}}
    result |= {{"objective": "val/accuracy", "higher_is_better": True}}
    (folder / "result.json").write_text(json.dumps(result))
    return result["val/accuracy"]

if __name__ == "__main__":
    main()
"""


@dataclass
class Ended:
    """How a call of the program ended."""

    code: int
    out: str
    err: str


@dataclass
class Program:
    """The program in a folder of its own, which sweeps into `out`."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def ran(self) -> list[str]:
        """`seed epochs` of each job as it was started."""
        file = self.folder / "ran.txt"
        return file.read_text().splitlines() if file.exists() else []

    def fault(self, seed: int, kind: str) -> None:
        (self.folder / "faults" / str(seed)).write_text(kind)

    def mend(self, seed: int) -> None:
        (self.folder / "faults" / str(seed)).unlink()

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a sweep in a process group of its own, as a terminal does."""
        # A launcher's workers get a terminal's Ctrl-C too, which the stand-in does not pass on to them.
        python = sys.executable if any("launcher" in each for each in arguments) else forking.python()
        command = [python, "-u", "train.py", "-m", "hydra.sweep.dir=out", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip

    def sweep(self, *arguments: str) -> Ended:
        """Sweep in this process, which has loaded what it needs."""
        self.monkeypatch.setattr(sys, "argv", ["train.py", "-m", "hydra.sweep.dir=out", *arguments])
        code = 0
        try:
            runpy.run_path("train.py", run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        captured = self.capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    def sweep_apart(self, *arguments: str, **environment: str) -> Ended:
        """Sweep in a process of its own."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=120)
        return Ended(process.returncode, out, err)

    def records(self) -> dict[str, dict]:
        """The records by `seed epochs` of their jobs."""
        found = {}
        for path in self.out.glob("*/record.json"):
            record = json.loads(path.read_text())
            told = dict(override.split("=") for override in record["overrides"])
            found[f"{told.get('seed', '0')} {told.get('epochs', '20')}"] = record
        return found

    def statuses(self) -> dict[str, str]:
        return {job: record["status"] for job, record in self.records().items()}


@pytest.fixture
def program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Program]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faults").mkdir()
    conf = tmp_path / "conf"
    shutil.copytree(CONF / "hydra", conf / "hydra")
    settings = OmegaConf.create({"hydra": OmegaConf.load(CONF / "config.yaml").hydra})
    (conf / "config.yaml").write_text(CONFIG + OmegaConf.to_yaml(settings))
    monkeypatch.setattr("optwrap.sweep.report.write.draw", lambda jobs, out, search: [])  # test_write.py draws
    places = {"conf": str(conf), "ran": str(tmp_path / "ran.txt"), "faults": str(tmp_path / "faults")}
    (tmp_path / "train.py").write_text(SCRIPT.format(**places))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Program(tmp_path, monkeypatch, capsys)
    root.handlers[:] = handlers
    root.setLevel(level)
