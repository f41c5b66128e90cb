"""Rows as metrics of an MLflow run."""

import logging
import os
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from optwrap.lock import locked
from optwrap.loggers.protocol import Logger, Place, Run

_MOST = 1000  # metrics in a batch, by MLflow's own limit
_STORE = Path("outputs") / "mlflow"


class MlflowLogger(Logger):
    """A run of the MLflow experiment `experiment` (null: the repository's name), found again by a tag of its id.

    `tracking_uri` null is MLFLOW_TRACKING_URI, else the SQLite store outputs/mlflow/mlflow.db. MLflow has no
    infinity there: it keeps the largest number instead.
    """

    packages: ClassVar = ("mlflow", "sqlalchemy", "alembic")
    extra: ClassVar = "mlflow"

    def __init__(self, experiment: str | None = None, tracking_uri: str | None = None) -> None:
        self._experiment, self._uri = experiment, tracking_uri

    def start(self, run: Run) -> Collection[Place]:
        """Find the run by its tag, or make it with the config as its params; return the rows that it has."""
        from mlflow import MlflowClient
        from mlflow.environment_variables import MLFLOW_TRACKING_URI

        logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)  # it says that it makes tables
        logging.getLogger("urllib3.connectionpool").addFilter(_is_of_others)
        self._run = run
        self._metrics: list[Any] = []
        if uri := self._uri or MLFLOW_TRACKING_URI.get():
            self._client = MlflowClient(uri)
            experiment = self._experiment_id(None)
        else:
            store = _STORE.absolute()
            store.mkdir(parents=True, exist_ok=True)
            with locked(store, wait=60.0):  # of two that make the tables at once one would fail
                _make_tables(store / "mlflow.db")
                self._client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
                experiment = self._experiment_id((store / "artifacts").as_uri())
        known = self._client.search_runs([experiment], f"tags.`optwrap.id` = '{run.id}'", max_results=1)
        if not known:
            self._id = self._new_run(experiment)
            return []
        self._id = known[0].info.run_id
        self._client.update_run(self._id, status="RUNNING")
        names = [name for name in known[0].data.metrics if name.endswith("/epoch")]  # which each row has
        return [
            (name.partition("/")[0], metric.step)
            for name in names
            for metric in self._client.get_metric_history(self._id, name)
        ]

    def log(self, split: str, row: Mapping[str, float | int]) -> None:
        """Keep a row until `sync`, or until a batch is full; a row is in one batch, which is there or not."""
        from mlflow.entities import Metric

        if len(self._metrics) + len(row) > _MOST:
            self.sync()
        now, update = int(time.time() * 1000), int(row["update"])
        numbers = {f"{split}/{name}": float(value) for name, value in row.items() if name != "update"}
        self._metrics += [Metric(name, value, now, update) for name, value in numbers.items()]

    def sync(self) -> None:
        """Write the rows since the last call."""
        if self._metrics:
            self._client.log_batch(self._id, self._metrics, synchronous=True)
        self._metrics = []

    def artifact(self, path: Path) -> None:
        """Put a file among the run's artifacts."""
        folder = path.relative_to(self._run.folder).parent.as_posix()
        self._client.log_artifact(self._id, str(path), None if folder == "." else folder)

    def close(self, status: str) -> None:
        """Say how the run ended, in MLflow's words."""
        words = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
        self._client.set_terminated(self._id, words[status])

    def _experiment_id(self, artifacts: str | None) -> str:
        name = self._experiment or self._run.project
        if found := self._client.get_experiment_by_name(name):
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, artifacts))

    def _new_run(self, experiment: str) -> str:
        from mlflow.entities import Param

        tags = {"optwrap.id": self._run.id, "optwrap.group": self._run.group or ""}
        run = self._client.create_run(experiment, run_name=self._run.name, tags=tags)
        params = [Param(name, str(value)[:500]) for name, value in _flat(self._run.config)]
        for start in range(0, len(params), 100):
            self._client.log_batch(run.info.run_id, params=params[start : start + 100], synchronous=True)
        return str(run.info.run_id)


def _make_tables(path: Path) -> None:
    """Make a store whole or not at all: of half of its tables, as a kill leaves them, MLflow makes no more."""
    if path.exists():
        return
    from mlflow import MlflowClient

    for left in path.parent.glob("*.tmp*"):
        left.unlink()
    unfinished = path.with_name(f"{uuid.uuid4().hex}.tmp")
    MlflowClient(f"sqlite:///{unfinished}").search_experiments(max_results=1)
    os.replace(unfinished, path)


def _is_of_others(record: logging.LogRecord) -> bool:
    """Leave out each try to reach a server: what comes of them is said once."""
    return not str(record.threadName).startswith("logger.")


def _flat(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
