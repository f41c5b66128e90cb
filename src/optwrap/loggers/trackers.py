"""The loggers of a run beside metrics.csv, and who the run is to them."""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optwrap.errors import ConfigError
from optwrap.files import read_json, write_json
from optwrap.loggers.csv_logger import as_written, read_rows
from optwrap.loggers.delivery import FOLDER, Delivery
from optwrap.loggers.nodes import build_logger, trackers, writes_train_rows
from optwrap.loggers.protocol import Row, Run


@dataclass(frozen=True)
class Named:
    """What a new run is called; see `Run`."""

    name: str
    group: str | None = None
    project: str = "train"


class Trackers:
    """Every logger but that of metrics.csv; none of them can fail or stop the run.

    `train_rows` says whether training rows are written at all.
    """

    def __init__(self, deliveries: Sequence[Delivery] = (), train_rows: bool = True) -> None:
        self._deliveries, self.train_rows = list(deliveries), train_rows
        self._rows = 0

    def begin(self, metrics: Path) -> None:
        """Start them; the file `metrics` has the rows of earlier parts of the run."""
        rows = read_rows(metrics) if self._deliveries else []
        self._rows = len(rows)
        for each in self._deliveries:
            each.begin(rows)

    def log(self, split: str, row: Row) -> None:
        """Take in the row that metrics.csv has now got."""
        self._rows += 1
        for each in self._deliveries:
            each.log(self._rows, (split, as_written(row)))

    def deliver(self, number: int | None = None) -> None:
        """Send the first so many rows of the run, which a checkpoint holds; None: all."""
        for each in self._deliveries:
            each.deliver(number)

    def artifact(self, path: Path) -> None:
        """Send a file of the run's folder."""
        for each in self._deliveries:
            each.artifact(path)

    def close(self, status: str = "finished") -> None:
        """Let all end, side by side, and wait for each as long as its node says; a second call does nothing."""
        now = time.monotonic()
        ending, self._deliveries = self._deliveries, []
        for each in ending:
            each.close(status)
        for each in ending:
            each.join(now)


def build_trackers(config: Mapping[str, Any], folder: Path, named: Named) -> Trackers:
    """Return the loggers that the config's `logger` names, for the run in `folder`.

    Raises:
        ConfigError: as `check_loggers`.
    """
    node = config["logger"]
    built = {key: build_logger(key, each) for key, each in trackers(node)}
    if not built:
        return Trackers(train_rows=writes_train_rows(node))
    run = _identified(config, folder, named)
    deliveries = [Delivery(key, each, run, **own) for key, (each, own) in built.items()]
    return Trackers(deliveries, writes_train_rows(node))


def _identified(config: Mapping[str, Any], folder: Path, named: Named) -> Run:
    """Return the run as it was called when it began, which a file in its folder says."""
    path = folder / FOLDER / "run.json"
    if path.exists():
        try:
            return Run(folder, config, **read_json(path), resumed=True)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{path}: this cannot be read ({error}). Delete it to go on as a new run."
            ) from error
    identity: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "name": named.name,
        "group": named.group,
        "project": named.project,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)
    return Run(folder, config, **identity)
