"""What each tracker has stored, read back by its own API, is what metrics.csv has: after kills and resumes too."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.optwrap.loggers import part
from tests.optwrap.loggers.stored import READERS, assert_stored, own_environment, rows

TARGETS = {
    "tensorboard": "TensorBoardLogger",
    "trackio": "TrackioLogger",
    "mlflow": "MlflowLogger",
    "wandb": "WandbLogger",
}


SLOW = [pytest.param(key, marks=pytest.mark.slow) for key in ("mlflow", "wandb")]


def node(key, **more):
    return {key: {"_target_": f"optwrap.loggers.{TARGETS[key]}", "wait": 60.0, **more}}


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of MLflow without runs: it takes seconds to make one."""
    mlflow = pytest.importorskip("mlflow")
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Have every tracker store below the test's own folder."""
    if request.node.callspec.params["key"] == "mlflow":
        (tmp_path / "outputs" / "mlflow").mkdir(parents=True)
        shutil.copy(request.getfixturevalue("tables"), tmp_path / "outputs" / "mlflow" / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    if "trackio" in sys.modules:  # which has read it
        for module in ("trackio.utils", "trackio.sqlite_storage"):
            monkeypatch.setattr(f"{module}.TRACKIO_DIR", tmp_path / "trackio")
    return tmp_path


def call(folder, node, point=None):
    command = [
        sys.executable,
        str(Path(part.__file__)),
        str(folder),
        json.dumps(node),
        *([point] if point else []),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder.parent, timeout=120, env=own_environment()
    )


@pytest.mark.parametrize("key", ["tensorboard", "trackio", *SLOW])
def test_a_tracker_has_the_rows_of_metrics_csv(key, store):
    pytest.importorskip(key)
    part.main(store / "run", node(key))
    assert len(rows(store / "run")) == 10
    assert_stored(key, store / "run", key == "tensorboard")


KILLS = [*((point, False) for point in part.POINTS), ("after_log", True), ("after_val", True)]
FEW = [("before_delivery", False), ("after_log", False), ("after_sync", False), ("after_val", True)]
"""For trackers that take seconds to start: how rows are delivered is the same for all."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "point", "live"),
    [(key, *each) for key in READERS for each in (FEW if key in ("mlflow", "wandb") else KILLS)],
)
def test_after_a_kill_and_a_resume_each_row_is_there_once(key, point, live, store):
    pytest.importorskip(key)
    folder = store / "run"
    killed = call(folder, node(key, live=live), point)
    assert killed.returncode == -9, killed.stderr
    resumed = call(folder, node(key, live=live))
    assert (resumed.returncode, "logger." in resumed.stderr) == (0, False), resumed.stderr
    assert_stored(key, folder, key == "tensorboard", {"seconds"} if live else set())


@pytest.mark.slow
def test_a_store_of_mlflow_that_a_kill_left_half_made_is_made_anew(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.store.db import utils

    from optwrap.loggers import MlflowLogger, Run

    monkeypatch.chdir(tmp_path)
    upgrade, run = utils._upgrade_db, Run(tmp_path, {}, "id", "name", None, "project", False)

    def killed(engine):
        raise KeyboardInterrupt

    monkeypatch.setattr("mlflow.store.db.utils._upgrade_db", killed)
    with pytest.raises(KeyboardInterrupt):
        MlflowLogger().start(run)
    monkeypatch.setattr("mlflow.store.db.utils._upgrade_db", upgrade)
    MlflowLogger().start(run)
    assert sorted(path.name for path in (tmp_path / "outputs" / "mlflow").glob("mlflow.db*")) == ["mlflow.db"]
