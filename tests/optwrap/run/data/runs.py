"""Runs on data of one's own."""

import csv
import json

OWN = "tests.optwrap.run.data.own"
TIMES = {"seconds", "images_per_second"}


def on(data, *arguments):
    """Return the overrides of a short run on the data that this function of `own` gives."""
    return (
        *(f"data._target_={OWN}.{data}", *arguments, f"model._target_={OWN}.net", "task.num_classes=3"),
        *("batch_size=4", "device=cpu", "log_every=1", "optim_wrapper=sgd"),
    )


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def result(folder):
    return json.loads((folder / "result.json").read_text())
