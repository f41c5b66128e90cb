"""The jobs of a sweep, or any runs below a folder, as data: who was told what, and what came out."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from optwrap.config.parser_errors import load_bounded
from optwrap.errors import ConfigError
from optwrap.files import csv_cell, write_text
from optwrap.provenance.record import files_of, last_start
from optwrap.sweep.names import by_key
from optwrap.sweep.records import RECORD, Record, current, read_result

RESULTS = "results.csv"


@dataclass(frozen=True)
class Job:
    """One job: its folder, what it was told, its record (None for a run outside of sweeps) and its results."""

    folder: Path
    overrides: Mapping[str, str]
    record: Record | None
    result: Mapping[str, Any]

    @property
    def status(self) -> str:
        """The record's status; a run without one has finished where it has results."""
        if self.record is not None:
            return self.record.status
        return "finished" if self.result else "unfinished"

    @property
    def numbers(self) -> dict[str, float]:
        """The results that are numbers."""
        return {name: value for name, value in self.result.items() if _is_number(value)}

    def value(self, key: str) -> str:
        """Return what `key` was for this job: as typed, else as its config or its choice of groups has it."""
        return self.overrides[key] if key in self.overrides else self._composed.get(key, "")

    @cached_property
    def start(self) -> Mapping[str, Any]:
        """What is known of the last start: its time, commit and files; empty where nothing is."""
        return last_start(self.folder)

    @cached_property
    def files(self) -> Mapping[str, str]:
        """The files of the project, with their hashes, that it had imported."""
        return files_of(self.start)

    @property
    def pruned(self) -> bool:
        """Whether a search has ended it early (the hook `Pruning`, under whatever name)."""
        return any(isinstance(value, Mapping) and bool(value.get("pruned")) for value in self.result.values())

    @property
    def commit(self) -> str:
        """The commit of the code, with a + where there were changes to it."""
        return f"{str(self.start.get('commit') or '')[:10]}{'+' * bool(self.start.get('dirty'))}"

    @cached_property
    def _composed(self) -> "Composed":
        saved = self.folder / ".hydra"
        chosen = OmegaConf.select(_load(saved / "hydra.yaml"), "hydra.runtime.choices", default=None)
        return Composed(_load(saved / "config.yaml"), chosen or {})


class Composed:
    """A config and the choices of groups that made it, looked up by an override's key."""

    def __init__(self, config: Any, chosen: Mapping[str, Any]) -> None:
        self._configs = [config, dict(chosen)]

    def get(self, key: str, default: str) -> str:
        """Return the value of a key, or the option of a group; `default` where there is neither."""
        for config in self._configs:
            value = OmegaConf.select(config, key) if not isinstance(config, dict) else config.get(key)
            if value is not None and not OmegaConf.is_config(value):
                return str(value).lower() if isinstance(value, bool) else str(value)
        return default


def read_jobs(folder: Path) -> list[Job]:
    """Return the jobs and runs in and below `folder`, in the order of their start, else of their folders' names.

    Raises:
        ConfigError: there are none.
    """
    folders = {path.parent for path in folder.rglob(RECORD)}
    folders |= {path.parents[1] for path in folder.rglob(".hydra/overrides.yaml")}
    jobs = [_read_job(each) for each in folders]
    if not jobs:
        raise ConfigError(f"{folder}: there is no run in or below it.")
    return sorted(jobs, key=lambda job: (job.record.started if job.record else 0, _natural(job.folder)))


def of_other_code(jobs: Sequence[Job]) -> dict[Path, list[str]]:
    """Return the jobs that other code has made than the newest of them, by folder, and the files that differ.

    Files that only one of the two had imported are not compared.
    """
    newest = max(jobs, key=lambda job: (bool(job.files), str(job.start.get("time"))), default=None)
    files = newest.files if newest else {}
    differ = {
        job.folder: [name for name, value in job.files.items() if files.get(name, value) != value] for job in jobs
    }
    return {folder: names for folder, names in differ.items() if names}


def write_results_csv(folder: Path, jobs: Sequence[Job]) -> Path:
    """Write a row a job below `folder`: name, status, what it was told, its results, attempts; return the file.

    It is made anew from the jobs' own records each time, and holds nothing that they do not.
    """
    told = list(dict.fromkeys(key for job in jobs for key in job.overrides))
    came_out = list(dict.fromkeys(name for job in jobs for name in job.numbers if name not in told))
    ran = ("duration", "attempts", "host", "error")
    text = io.StringIO()
    writer = csv.writer(text)
    other = of_other_code(jobs)
    writer.writerow(["job", "status", *told, *came_out, *ran, "commit", "code"])
    for job in jobs:
        numbers = job.numbers
        run = [getattr(job.record, name, None) for name in ran]
        cells = [*(job.value(key) for key in told), *(numbers.get(name) for name in came_out), *run, job.commit]
        code = "other" if job.folder in other else ""
        cells = [job.folder.relative_to(folder), job.status, *("" if c is None else c for c in cells), code]
        writer.writerow([csv_cell(cell) for cell in cells])
    write_text(folder / RESULTS, text.getvalue())
    return folder / RESULTS


def _read_job(folder: Path) -> Job:
    record = current(folder)
    typed = record.overrides if record else _load(folder / ".hydra" / "overrides.yaml")
    overrides = {key: value for key, value in by_key(typed).items() if not key.startswith("sweep.")}
    finished = record is None or record.status == "finished"
    return Job(folder, overrides, record, read_result(folder) if finished else {})


def _load(path: Path) -> Any:
    try:
        return load_bounded(path)
    except Exception:  # damaged files raise many kinds, and a report goes on without one of them
        return OmegaConf.create({})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _natural(folder: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(folder))]
