"""What a run leaves in its folder, and shows on the terminal, on the way."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optwrap.files import read_mapping, write_json
from optwrap.loggers import CsvLogger
from optwrap.loggers.trackers import Trackers
from optwrap.optim import OptimWrapper, format_table, write_csv
from optwrap.optim.assignment.table import hits
from optwrap.plan.plan import Plan
from optwrap.record.plots import plot_curves
from optwrap.record.progress import Progress, Row, summary
from optwrap.record.result import UNSHOWN
from optwrap.sweep.job import launcher_asked

logger = logging.getLogger(__name__)

FILES = {
    "log": "train.log",
    "metrics": "metrics.csv",
    "result": "result.json",
    "param groups": "param_groups.csv",
    "curves": "curves.png",
    "checkpoint": "checkpoint.pt",
    "trace": "trace.json",
    "lr finder": "lr_finder.png",
    "status": "status.json",
}


def complete(folder: Path, plan: Plan, count: int) -> None:
    """Write what is still missing beside the result of a run: its curves, and then that it is finished.

    `count` is its micro-batches, fewer than planned where it was stopped.
    """
    if _status(folder) == "finished":
        return
    if (folder / FILES["metrics"]).exists():
        plot_curves(folder / FILES["metrics"], folder / FILES["curves"])
    _write_status(folder, plan, "finished", count)


def send_rest(folder: Path, trackers: Trackers) -> None:
    """Send the trackers of a finished run what they lack of it."""
    if (folder / FILES["metrics"]).exists():
        trackers.begin(folder / FILES["metrics"])
        _send_files(folder, trackers)
        trackers.close()


class FolderWriter:
    """Writes a run's rows, status, param groups and result into `folder`, and shows them.

    `trackers` are the loggers beside metrics.csv; `resumed`, of an earlier part of the run, what `sync` returned.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        wrappers: Mapping[str, OptimWrapper],
        trackers: Trackers,
        resumed: Mapping[str, Any] | None,
    ) -> None:
        self.path, self._plan, self._wrappers = folder, plan, wrappers
        rows, columns = (resumed["rows"], resumed["columns"]) if resumed else (0, 1)
        self._csv = CsvLogger(folder / FILES["metrics"], rows, columns)
        if self._csv.rows < rows:
            missing = rows - self._csv.rows
            logger.warning("%s lacks %d rows that it had at the checkpoint.", self._csv.path, missing)
        self._trackers, self._held = trackers, 0
        self._progress = Progress(plan.updates)

    def begin(self) -> None:
        """Write the param groups and that the run is running; show the live display."""
        self._write_param_groups()
        self._trackers.begin(self._csv.path)
        self._progress.__enter__()
        _write_status(self.path, self._plan, "running", self._plan.start.micro_batches)

    def end(self, error: BaseException | None, count: int) -> None:
        """Close metrics.csv and the display; where an error ended the run after `count` micro-batches, say so.

        Trackers then end too: a run that failed sends every row, one that was stopped those that it will not make
        again. Without an error they wait for `finish`.
        """
        self._progress.__exit__(None, None, None)
        self._csv.close()
        asked = isinstance(error, KeyboardInterrupt) or (error is not None and launcher_asked(error))
        if not asked:
            self._trackers.deliver()
        if error is None:
            return
        status = "interrupted" if asked else "failed"
        if self.path.is_dir():  # else what has ended the run is that the folder is gone
            _write_status(self.path, self._plan, status, count)
        self.close(status)

    def close(self, status: str) -> None:
        """Let the trackers end; a second call does nothing."""
        self._trackers.close(status)

    def artifact(self, path: Path) -> None:
        """Send the trackers a file of the folder."""
        self._trackers.artifact(path)

    def advance(self, count: int) -> None:
        """Move the live display."""
        self._progress.advance(self._plan.update_after(count))

    def train_row(self, row: Row) -> None:
        """Show a training row; write it where training rows are wanted."""
        self._progress.log("train", row)
        if self._trackers.train_rows:
            self._write("train", row)

    def row(self, split: str, row: Row) -> None:
        """Show and write a row."""
        self._progress.log(split, row)
        self._write(split, row)

    def sync(self) -> dict[str, int]:
        """Make the rows so far last; return how many there are, and of how many columns."""
        self._csv.sync()
        self._held = self._csv.rows
        return {"rows": self._held, "columns": len(self._csv.columns)}

    def saved(self) -> None:
        """Send the trackers the rows that `sync` has counted: a checkpoint that holds them is there."""
        self._trackers.deliver(self._held)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write `result.json` and `curves.png`; show the summary."""
        write_json(self.path / FILES["result"], result)
        complete(self.path, self._plan, result["micro_batches"])
        _send_files(self.path, self._trackers)
        self.close("finished")
        files = {what: self.path / name for what, name in FILES.items() if what != "status"}
        shown = {name: value for name, value in result.items() if name not in UNSHOWN}
        summary(shown, {"folder": self.path} | files)

    def _write(self, split: str, row: Row) -> None:
        self._csv.log(split, row)
        self._trackers.log(split, row)

    def _write_param_groups(self) -> None:
        assignments = [each for wrapper in self._wrappers.values() for each in wrapper.assignments]
        write_csv(assignments, self.path / FILES["param groups"])
        groups = sum(len(wrapper.param_groups) for wrapper in self._wrappers.values())
        title = f"{len(assignments)} parameters in {groups} param group{'s' * (groups != 1)}"
        rules = ", ".join(f"{rule}: {count}" for rule, count in hits(assignments).items())
        title = f"{title} ({rules})" if rules != f"base: {len(assignments)}" else title
        shown = {"terminal": f"{title}: {FILES['param groups']}"}
        logger.info("%s:\n%s", title, format_table(assignments), extra=shown)


def _send_files(folder: Path, trackers: Trackers) -> None:
    for path in (folder / FILES["curves"], folder / FILES["result"]):
        if path.exists():
            trackers.artifact(path)


def _status(folder: Path) -> Any:
    return read_mapping(folder / FILES["status"]).get("status")


def _write_status(folder: Path, plan: Plan, status: str, count: int) -> None:
    """Say how a run stands, to people and to programs that look at many."""
    content = {"status": status, "update": plan.update_after(count), "updates": plan.updates}
    write_json(folder / FILES["status"], content)
