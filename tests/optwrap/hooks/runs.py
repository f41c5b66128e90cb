"""Short runs with hooks."""

import csv
import json
from pathlib import Path
from typing import Any

QUICK = (
    *("data=fake", "data.size=40", "data.eval_size=8", "data.image_size=8", "data.augment=false", "batch_size=4"),
    *("log_every=5", "device=cpu", "deterministic=true"),
)
TIMES = {"seconds", "images_per_second"}
OWN = "tests.optwrap.hooks.own"


def rows(folder: Path, split: str | None = None) -> list[dict[str, str]]:
    """Return the rows of metrics.csv, less times."""
    with (folder / "metrics.csv").open() as file:
        found = [row for row in csv.DictReader(file) if split in (None, row["split"])]
    return [{name: cell for name, cell in row.items() if name not in TIMES} for row in found]


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())
