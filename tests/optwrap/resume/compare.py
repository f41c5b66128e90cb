"""Whether two runs ended alike, to the bit; times are left out."""

import csv
import json
from pathlib import Path

import torch

from optwrap.checkpoint import files as checkpoint

TIMES = {"seconds", "images_per_second", "peak_memory_mib"}
PROGRAM = {"resume", "num_workers", "hydra"}  # what may differ between a run and its twin


def differences(first: Path, second: Path) -> list[str]:
    """Return what differs between the two runs' folders: weights, optimizer, schedule, random state, records."""
    states = [checkpoint.load(folder / "checkpoint.pt", torch.device("cpu")) for folder in (first, second)]
    found = list(_differences(*states, "checkpoint"))
    best = _best(first), _best(second)
    found += _differences(*best, "best")
    found += _differences(*map(_rows, (first, second)), "metrics.csv")
    results = [json.loads((folder / "result.json").read_text()) for folder in (first, second)]
    return found + list(_differences(*results, "result.json"))


def _best(folder: Path) -> dict | None:
    path = folder / "checkpoints/best.pt"
    return torch.load(path, weights_only=True)["progress"] if path.exists() else None


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _differences(first, second, place):
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        same = first.dtype == second.dtype and torch.equal(first, second)
        if not same:
            yield place
    elif isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            if key in TIMES | PROGRAM:
                continue
            if key not in first or key not in second:
                yield f"{place}.{key} is in one only"
            else:
                yield from _differences(first[key], second[key], f"{place}.{key}")
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple):
        if len(first) != len(second):
            yield f"{place} has {len(first)} and {len(second)} entries"
        for i, pair in enumerate(zip(first, second, strict=False)):
            yield from _differences(*pair, f"{place}[{i}]")
    elif first != second and not (first != first and second != second):
        yield f"{place}: {first} and {second}"
