"""A pruned search of train.py, killed and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("optuna")

ROOT = Path(__file__).parents[4]
SEARCH = (
    *("data=digits", "data.augment=false", "max_updates=24", "eval_every=4", "device=cpu", "deterministic=true"),
    *("hydra/sweeper=search", "hooks=pruning", "hooks.pruning.pruner.n_startup_trials=3", "seed=0,1"),
    *("optim_wrapper.optimizer.lr=tag(log,interval(1e-4,1))", "hydra.sweeper.n_trials=8"),
)


def start(folder):
    command = [sys.executable, "-u", "train.py", "-m", *SEARCH, f"hydra.sweep.dir={folder}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=True)  # fmt: skip


@pytest.mark.slow
def test_a_pruned_search_that_was_killed_in_two_jobs_gives_the_trials_of_the_uninterrupted_one(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    for finished in (5, 12):
        process = start(killed)
        deadline = time.monotonic() + 200
        while len(list(killed.glob("*/result.json"))) < finished or not _in_a_job(killed):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(killed)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    trials = [json.loads((folder / "search.json").read_text())["trials"] for folder in (whole, killed)]
    assert trials[0] == trials[1]
    assert {trial["state"] for trial in trials[0]} == {"complete", "pruned"}
    stopped = [json.loads(path.read_text()).get("stopped") for path in whole.glob("*/result.json")]
    assert any(str(reason).startswith("pruning: val/accuracy falls behind") for reason in stopped)


def _in_a_job(folder):
    """Whether some job has evaluated, and not ended."""
    jobs = [path.parent for path in folder.glob("*/metrics.csv")]
    return any("val," in (job / "metrics.csv").read_text() and not (job / "result.json").exists() for job in jobs)
