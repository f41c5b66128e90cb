"""A part of a made-up run of three epochs, whose process may be killed at a point: the real loggers, no training.

`python part.py FOLDER NODE [POINT]`, where NODE is the config's `logger` as JSON. Called again it goes on from the
last checkpoint, and rows that it makes again have another clock.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from optwrap.loggers import CsvLogger
from optwrap.loggers.trackers import Named, Trackers, build_trackers

EPOCHS = 3
POINTS = ("before_save", "before_delivery", "before_log", "after_log", "before_sync", "after_sync", "after_val")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal may come to another thread first


def killing(logger: Any, point: str | None) -> None:
    """Have the logger end its process at a point of the second epoch's delivery."""
    calls = {"log": 0, "sync": 0}

    def wrapped(name: str, at: int) -> Any:
        real = getattr(logger, name)

        def call(*args: Any) -> None:
            calls[name] += 1
            if point == f"before_{name}" and calls[name] == at:
                kill()
            real(*args)
            if point == f"after_{name}" and calls[name] == at:
                kill()

        return call

    logger.log, logger.sync = wrapped("log", 4), wrapped("sync", 2)


class Part:
    """Rows and checkpoints, as a run's recorder and saver make them."""

    def __init__(self, folder: Path, trackers: Trackers, point: str | None) -> None:
        self.folder, self.trackers, self.point = folder, trackers, point
        self.saved = folder / "checkpoint.json"
        state = (
            json.loads(self.saved.read_text()) if self.saved.exists() else {"rows": 0, "columns": 1, "epoch": 0}
        )
        self.epoch = state["epoch"]
        self.csv = CsvLogger(folder / "metrics.csv", state["rows"], state["columns"])
        trackers.begin(self.csv.path)

    def row(self, split: str, update: int, **values: float | None) -> None:
        place = {"epoch": max(1, self.epoch), "update": update, "seconds": round(time.time() % 1000, 3)}
        self.csv.log(split, place | values)
        self.trackers.log(split, place | values)

    def at(self, point: str) -> None:
        if self.point == point and self.epoch == 2:
            time.sleep(1.0)  # what was delivered before is there
            kill()

    def save(self) -> None:
        self.csv.sync()
        self.at("before_save")
        state = {"rows": self.csv.rows, "columns": len(self.csv.columns), "epoch": self.epoch}
        self.saved.with_suffix(".tmp").write_text(json.dumps(state))
        self.saved.with_suffix(".tmp").rename(self.saved)
        self.at("before_delivery")
        self.trackers.deliver(self.csv.rows)

    def run(self) -> None:
        if self.epoch:
            self.row("val", 10 * self.epoch, accuracy=self.epoch / 7)
        while self.epoch < EPOCHS:
            self.epoch += 1
            update = 10 * self.epoch
            loss = float("nan") if self.epoch == 2 else 1 / self.epoch
            self.row("train", update - 5, loss=loss, lr=1 / 3, grad_norm=None)
            self.row("train", update, loss=2e-17, lr=0.1, grad_norm=4.0)
            self.save()
            self.row("val", update, accuracy=self.epoch / 7)
            self.at("after_val")
            if self.point == "stop" and self.epoch == 2:
                self.trackers.close("interrupted")
                raise KeyboardInterrupt
        self.row("test", 10 * EPOCHS, accuracy=0.5)
        self.trackers.deliver()
        (self.folder / "picture.png").write_bytes(b"no picture")
        self.trackers.artifact(self.folder / "picture.png")
        self.trackers.close()


def main(folder: Path, node: dict[str, Any], point: str | None = None, **named: Any) -> None:
    """Run a part, to the point or to the end."""
    folder.mkdir(exist_ok=True)
    config = {"logger": node, "epochs": EPOCHS, "model": {"width": 8, "sizes": [1, 2]}}
    trackers = build_trackers(config, folder, Named(folder.name, **{"project": "tests", **named}))
    for delivery in trackers._deliveries:
        killing(delivery._logger, point)
    Part(folder, trackers, point).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), *sys.argv[3:])
