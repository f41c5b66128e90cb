"""What a logger is told and asked, of whatever kind it is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Value = float | int | None
Row = Mapping[str, Value]
Place = tuple[str, int]
"""What a row is known by: its split, and the update that it stands at."""


@dataclass(frozen=True)
class Run:
    """The run that a logger records.

    `id` stays the same when the run goes on, and in a copy of its folder. Of a job of a sweep `group` is the sweep
    and `name` what results.csv calls the job; of another run `group` is None. `project` is the name of the
    repository's folder. `resumed` says that an earlier process has begun the run.
    """

    folder: Path
    config: Mapping[str, Any]
    id: str
    name: str
    group: str | None = None
    project: str = "train"
    resumed: bool = False


class Logger:
    """Records a run's rows somewhere. To be inherited from: what a logger of one's own leaves out does nothing.

    All methods are called from one thread that is not the run's, in the order below; a constructor takes the keys
    of the config's node and opens nothing. What they raise is a warning, once, and ends this logger alone.
    """

    def start(self, run: Run) -> Collection[Place] | None:
        """Begin, or go on with, the run.

        Return the split and update of each row that is there already, which is not sent again. None: nobody can
        tell, and what a file in the run's folder says was sent is not sent again; a row that a kill cut short is.
        """
        return None

    def log(self, split: str, row: Mapping[str, float | int]) -> None:
        """Record a row of `split` (train, val or test): the numbers that metrics.csv has, `update` included."""

    def artifact(self, path: Path) -> None:
        """Record a file of the run's folder, such as a picture; one of the same name takes the place of it."""

    def sync(self) -> None:
        """Make last what was logged; called after each group of rows."""

    def close(self, status: str) -> None:
        """End the run's record, after which comes nothing; `status` is finished, interrupted or failed."""

    def abandon(self) -> None:
        """Keep nothing from ending the process: called from the run's thread where this failed or hangs."""
