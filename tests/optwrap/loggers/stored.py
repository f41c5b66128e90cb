"""What trackers have stored of a run, read back from their own storage: rows as `metrics.csv` has them."""

import csv
import json
import os
import time
from collections.abc import Callable, Sequence, Set
from pathlib import Path

import numpy as np

Stored = list[tuple[str, dict[str, float]]]


def own_environment() -> dict[str, str]:
    """Return the environment for a process whose W&B is not to be served by what serves this process."""
    return {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}


def rows(folder: Path) -> Stored:
    """Return the rows of metrics.csv, with the numbers that are there."""
    with (folder / "metrics.csv").open() as file:
        return [
            (row.pop("split"), {name: float(cell) for name, cell in row.items() if cell})
            for row in csv.DictReader(file)
        ]


def identity(folder: Path) -> dict[str, str]:
    return json.loads((folder / "loggers" / "run.json").read_text())


def tensorboard(folder: Path) -> Stored:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0}).Reload()
    return _joined(
        [(tag, event.step, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
    )


def trackio(folder: Path) -> Stored:
    from trackio import Api
    from trackio.sqlite_storage import SQLiteStorage

    run = identity(folder)
    (known,) = [each for each in Api().runs(run["project"]) if each.id == run["id"]]
    assert known.name == run["name"]
    return [_row(log, log["step"]) for log in SQLiteStorage.get_logs(run["project"], run_id=run["id"])]


def mlflow(folder: Path) -> Stored:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.parent / 'outputs' / 'mlflow' / 'mlflow.db'}")
    run = identity(folder)
    experiment = client.get_experiment_by_name(run["project"]).experiment_id
    known = client.search_runs([experiment], f"tags.`optwrap.id` = '{run['id']}'")
    assert [each.info.run_name for each in known] == [run["name"]]
    histories = {name: client.get_metric_history(known[0].info.run_id, name) for name in known[0].data.metrics}
    return _joined([(name, each.step, each.value) for name, history in histories.items() for each in history])


def wandb(folder: Path) -> Stored:
    from optwrap.loggers.wandb_files import is_ended, parts, rows

    files = parts(folder, identity(folder)["id"])
    give_up = time.monotonic() + 10
    while not is_ended(files[-1]) and time.monotonic() < give_up:  # its process writes on for an instant
        time.sleep(0.02)
    history = [{name: float(value) for name, value in _plain(row).items()} for path in files for row in rows(path)]
    assert [row["_step"] for row in history] == list(range(len(history)))
    return [_row(row, row["update"]) for row in history]


READERS: dict[str, Callable[[Path], Stored]] = {
    "tensorboard": tensorboard,
    "trackio": trackio,
    "mlflow": mlflow,
    "wandb": wandb,
}


def assert_stored(key: str, folder: Path, single: bool = False, but: Set[str] = frozenset()) -> None:
    """The tracker has each row of metrics.csv once, and no other (`single`: precision), less columns `but`."""
    stored, written = READERS[key](folder), rows(folder)
    assert _sorted(stored, single, but) == _sorted(written, single, but)


def _sorted(stored: Stored, single: bool, but: Set[str]) -> Sequence[tuple]:
    def text(value: float) -> str:
        return repr(float(np.float32(value)) if single else value)

    return sorted(
        (split, row["update"], sorted((name, text(value)) for name, value in row.items() if name not in but))
        for split, row in stored
    )


def _plain(row: dict[str, str]) -> dict[str, str]:
    return {name: value.strip('"') for name, value in row.items()}


def _row(values: dict, update: float) -> tuple[str, dict[str, float]]:
    (split,) = {name.partition("/")[0] for name in values if "/" in name}
    return split, {name.partition("/")[2]: float(value) for name, value in values.items() if "/" in name} | {
        "update": float(update)
    }


def _joined(numbers: list[tuple[str, int, float]]) -> Stored:
    """Join numbers into rows; one that is there twice makes a second row."""
    joined: Stored = []
    for tag, step, value in numbers:
        split, _, name = tag.partition("/")
        for other, row in joined:
            if (other, row["update"]) == (split, step) and name not in row:
                row[name] = value
                break
        else:
            joined.append((split, {"update": float(step), name: value}))
    return joined
