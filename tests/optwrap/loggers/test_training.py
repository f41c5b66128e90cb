"""`train.py` with every tracker, killed and resumed, and in a sweep: they store what metrics.csv has."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.optwrap.loggers.stored import READERS, assert_stored, identity, own_environment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
SHORT = ("data=fake", "data.size=256", "batch_size=8", "log_every=1")
ALL = "logger=[csv,tensorboard,trackio,mlflow,wandb]"


@pytest.fixture
def store(tmp_path, monkeypatch):
    for package in ("trackio", "mlflow", "wandb", "tensorboard"):
        pytest.importorskip(package)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for module in ("trackio.utils", "trackio.sqlite_storage"):
        monkeypatch.setattr(f"{module}.TRACKIO_DIR", tmp_path / "trackio")
    return tmp_path


def start(store, *overrides):
    command = [sys.executable, str(ROOT / "train.py"), *overrides, *SHORT]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=store, env=own_environment(), **pipe)


def finish(process):
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said
    return said


STRATEGIES = ("optim_wrapper=[adamw,ema,amp,accum2,clip]", "hooks=[early_stopping,update_ratio]")


@pytest.mark.parametrize(("after", "strategies"), [(1, ()), (3, STRATEGIES)])
def test_a_killed_and_resumed_run_is_one_run_with_each_row_once(after, strategies, store):
    folder = store / "run"
    told = ("epochs=4", "checkpoint.every=7", f"hydra.run.dir={folder}", "resume=auto", ALL, *strategies)
    told = (*told, *(f"logger.{key}.wait=90" for key in READERS))
    first = start(store, *told)
    while first.poll() is None and len(list(folder.glob("checkpoints/update_*"))) < min(2, after):
        time.sleep(0.02)
    time.sleep(0.3 * after)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    before = identity(folder)
    said = finish(start(store, *told))
    assert "logger." not in said
    assert identity(folder) == before
    for key in READERS:
        assert_stored(key, folder, key == "tensorboard")


def test_the_jobs_of_a_sweep_are_one_group_named_as_in_its_results(store):
    finish(start(store, "-m", "seed=0,1", "max_updates=2", "hydra.sweep.dir=norms", ALL, "logger.mlflow.wait=90"))
    with (store / "norms" / "results.csv").open() as file:
        jobs = [row["job"] for row in csv.DictReader(file)]
    known = [identity(store / "norms" / job) for job in jobs]
    assert [each["name"] for each in known] == jobs
    assert {each["group"] for each in known} == {"norms"}

    from mlflow import MlflowClient
    from trackio import Api

    from optwrap.loggers.wandb_files import parts, records

    project = known[0]["project"]
    runs = Api().runs(project)
    assert {run.name: run.config["_Group"] for run in runs} == dict.fromkeys(jobs, "norms")
    client = MlflowClient(f"sqlite:///{store / 'outputs' / 'mlflow' / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name(project).experiment_id])
    assert {run.info.run_name: run.data.tags["optwrap.group"] for run in found} == dict.fromkeys(jobs, "norms")
    for each in known:
        (path,) = parts(store / "norms" / each["name"], each["id"])
        (run,) = [record.run for record in records(path) if record.WhichOneof("record_type") == "run"]
        assert (run.display_name, run.run_group) == (each["name"], "norms")


def test_trackers_whose_servers_are_gone_neither_stop_the_run_nor_its_process(store, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    waits = ("logger.mlflow.wait=2", "logger.wandb.wait=2")
    server = ("logger.mlflow.tracking_uri=http://127.0.0.1:9", f"hydra.run.dir={store / 'run'}", "max_updates=4")
    began = time.monotonic()
    said = finish(start(store, "logger=[csv,mlflow,wandb]", *waits, *server))
    assert time.monotonic() - began < 45  # W&B and MLflow by themselves try for one and four minutes
    assert [said.count(f"logger.{key}: it did not end within 2 s") for key in ("mlflow", "wandb")] == [1, 1]
    assert "Traceback" not in said
    assert "Retrying" not in said
