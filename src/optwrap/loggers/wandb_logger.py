"""Rows as the history of a Weights & Biases run."""

import atexit
import logging
import os
import subprocess
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from optwrap.loggers.protocol import Logger, Place, Run
from optwrap.loggers.wandb_files import is_ended, parts, place, rows

logger = logging.getLogger(__name__)

_LET_GO = 5.0  # seconds that what W&B starts outlives a killed run, and may write


class WandbLogger(Logger):
    """A W&B run in `project` (null: the repository's name) of `entity`, a step of its history for each row.

    `mode` is online, offline or disabled; null: as WANDB_MODE or W&B's settings say, else online where W&B is
    logged in on this machine, and offline where it is not. The update is the x axis. W&B's files lie in the run's
    folder: `wandb sync` sends those of an offline run.
    """

    packages: ClassVar = ("wandb",)
    extra: ClassVar = "wandb"

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        mode: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        if mode not in (None, "online", "offline", "disabled"):
            raise ValueError(f"mode={mode}: it is online, offline or disabled")
        self._project, self._entity, self._mode, self._tags = project, entity, mode, tags

    def start(self, run: Run) -> Collection[Place]:
        """Go on with the W&B run of the same id; return the rows that its files have."""
        import wandb

        there = self._there(run)
        wandb.setup(wandb.Settings(silent=True))
        mode: Any = self._mode or _mode()
        self._wandb = wandb.init(
            project=self._project or run.project,
            entity=self._entity,
            id=run.id,
            name=run.name,
            group=run.group,
            config=dict(run.config),
            tags=self._tags,
            dir=run.folder,
            mode=mode,
            resume=None if mode == "offline" else "allow",
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )
        self._folder, self._steps = run.folder, len(there)
        if not self._wandb.offline and self._wandb.url:
            logger.info("logger.wandb: %s", self._wandb.url)
        self._wandb.define_metric("*", step_metric="update")
        return there

    def log(self, split: str, row: Mapping[str, float | int]) -> None:
        """Add a step to the history."""
        numbers = {f"{split}/{name}": value for name, value in row.items() if name != "update"}
        self._wandb.log({**numbers, "update": row["update"]}, step=self._steps)
        self._steps += 1

    def artifact(self, path: Path) -> None:
        """Save a file with the run."""
        self._wandb.save(str(path), base_path=str(self._folder), policy="now")

    def close(self, status: str) -> None:
        """Finish the W&B run; what has not finished it calls failed."""
        self._wandb.finish(exit_code=int(status != "finished"))

    def abandon(self) -> None:
        """Have the process end without waiting for what W&B has still to send."""
        atexit.register(_end_service)  # before W&B's own, which waits for it

    def _there(self, run: Run) -> list[Place]:
        files = parts(run.folder, run.id)
        if files and not is_ended(files[-1]):
            time.sleep(_LET_GO)
        return [place(row) for path in files for row in rows(path)]


def _end_service() -> None:
    """End the process that W&B has started beside this one, which W&B has no word for."""
    import wandb

    with suppress(AttributeError):
        connection: Any = wandb.setup()._connection
        process: subprocess.Popen[bytes] = connection._proc._process
        process.terminate()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
        connection._cleanup()  # or W&B would go on to speak to it


def _mode() -> str | None:
    import wandb

    if os.environ.get("WANDB_MODE") or wandb.setup().settings.mode != "online":
        return wandb.setup().settings.mode
    return None if wandb.login(prompt=False, verify=False) else "offline"
