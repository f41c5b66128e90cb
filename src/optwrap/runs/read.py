"""What a run's folder says of it, read as far as a list needs it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from optwrap.errors import ConfigError
from optwrap.files import read_mapping
from optwrap.lock import is_locked
from optwrap.provenance.record import read_starts
from optwrap.sweep.names import by_key
from optwrap.sweep.records import RECORD, current, read_result

_OVERRIDES = ".hydra/overrides.yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where it is there, is ten times as fast
_NOT_A_RUN = frozenset(
    {".hydra", "checkpoints", "report", "earlier", "predictions", "export", ".git", "__pycache__", ".venv"}
)


@dataclass(frozen=True)
class Run:
    """A run, or a job of a sweep, by its folder; each fact is read when it is first asked for."""

    folder: Path

    @cached_property
    def overrides(self) -> dict[str, str]:
        """What it was told, by key; Hydra's own left out."""
        try:
            typed = yaml.load((self.folder / _OVERRIDES).read_text(encoding="utf-8"), _LOADER)
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            return {}
        return by_key(typed) if isinstance(typed, list) else {}

    @cached_property
    def status(self) -> str:
        """How it stands: running, finished, failed, interrupted, killed, or new where it has not said."""
        if record := current(self.folder) if (self.folder / RECORD).exists() else None:
            return record.status
        status = str(self._status.get("status", "new"))
        return "killed" if status == "running" and not is_locked(self.folder) else status

    @cached_property
    def result(self) -> dict[str, Any]:
        """Its results, empty as long as it has not finished."""
        return read_result(self.folder) if self.status == "finished" else {}

    @property
    def objective(self) -> float | None:
        """The value of its objective."""
        value = self.result.get(str(self.result.get("objective")))
        return float(value) if isinstance(value, int | float) else None

    @property
    def seconds(self) -> float | None:
        """Seconds of training."""
        value = self.result.get("seconds")
        return float(value) if isinstance(value, int | float) else None

    @property
    def progress(self) -> str:
        """Updates that are made, of how many."""
        if "update" not in self._status:
            return ""
        return f"{self._status['update']}/{self._status.get('updates', '?')}"

    @cached_property
    def changed(self) -> float:
        """When it last wrote a row or how it stands, in seconds since 1970."""
        times = [_time(self.folder / name) for name in ("status.json", "metrics.csv", _OVERRIDES)]
        return max(times)

    @cached_property
    def starts(self) -> list[dict[str, Any]]:
        """What is known of each of its starts (`provenance.json`)."""
        return read_starts(self.folder)

    @property
    def start(self) -> dict[str, Any]:
        """What is known of the last of them; empty where nothing is."""
        return self.starts[-1] if self.starts else {}

    @cached_property
    def _status(self) -> dict[str, Any]:
        return read_mapping(self.folder / "status.json")


def find_runs(root: Path) -> list[Run]:
    """Return the runs in and below a folder, in the order of their names.

    Raises:
        ConfigError: there is no such folder.
    """
    if not root.is_dir():
        raise ConfigError(f"{root}: there is no such folder.")
    return [Run(folder) for folder in sorted(_folders(root))]


def run_in(folder: Path) -> Run:
    """Return the run in this very folder.

    Raises:
        ConfigError: there is none.
    """
    if not (folder / ".hydra").is_dir():
        below = [run.folder for run in find_runs(folder)[:3]] if folder.is_dir() else []
        hint = f" Runs below it: {', '.join(map(str, below))}, ..." if below else ""
        raise ConfigError(f"{folder}: this is no run's folder: it has no .hydra.{hint}")
    return Run(folder)


def _folders(folder: Path) -> Iterator[Path]:
    """Yield the folders of runs; nothing of a run's own is looked into but the jobs that may lie below it."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    if any(entry.name == ".hydra" for entry in entries):
        yield folder
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and entry.name not in _NOT_A_RUN:
            yield from _folders(Path(entry.path))


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
