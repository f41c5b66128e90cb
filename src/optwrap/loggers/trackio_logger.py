"""Rows in trackio's own store, for its dashboard."""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from optwrap.loggers.protocol import Logger, Place, Run


class TrackioLogger(Logger):
    """A run of the trackio project `project` (null: the repository's name), on this machine: `trackio show`.

    Rows go to trackio's database at once, so that they are there or an error says why not; its own queue would
    only warn. The store is where trackio has it, TRACKIO_DIR or its folder in the cache of Hugging Face.
    """

    packages: ClassVar = ("trackio", "trackio.sqlite_storage")
    extra: ClassVar = "trackio"

    def __init__(self, project: str | None = None) -> None:
        self._given = project

    def start(self, run: Run) -> Collection[Place]:
        """Find the run by its id; return the rows that it has."""
        from trackio.sqlite_storage import SQLiteStorage
        from trackio.utils import TRACKIO_DIR, get_storage_mode

        if get_storage_mode() != "sqlite":  # it would keep rows in files that cannot be read back
            raise RuntimeError(f"{TRACKIO_DIR} is on a network disk: set TRACKIO_DIR to a folder on a local one")
        self._store, self._run = SQLiteStorage, run
        self._project = self._given or run.project
        self._rows: list[dict[str, Any]] = []
        self._steps: list[int] = []
        self._store.validate_project_name(self._project)
        plain = json.loads(json.dumps(run.config, default=str))
        self._config: dict[str, Any] | None = {**plain, "_Group": run.group, "_Username": None}
        logs = self._store.get_logs(self._project, run_id=run.id)
        return [(next(name for name in log if "/" in name).partition("/")[0], log["step"]) for log in logs]

    def log(self, split: str, row: Mapping[str, float | int]) -> None:
        """Keep a row until `sync`."""
        self._rows.append({f"{split}/{name}": value for name, value in row.items() if name != "update"})
        self._steps.append(int(row["update"]))

    def sync(self) -> None:
        """Write the rows since the last call, all or none."""
        rows, steps, config = self._rows, self._steps, self._config
        self._store.bulk_log(self._project, self._run.name, rows, steps, config=config, run_id=self._run.id)
        if rows:
            self._rows, self._steps, self._config = [], [], None

    def artifact(self, path: Path) -> None:
        """Put a file among those of the project, in a folder of the run's name."""
        from trackio.utils import project_media_dir

        target = project_media_dir(self._project) / "files" / self._run.name / path.relative_to(self._run.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
