"""The run's log: a file of its folder."""

import logging
from pathlib import Path

from optwrap.errors import ConfigError
from optwrap.program.folder import run_folder


class LogFile(logging.FileHandler):
    """A logging handler that writes into the run's folder and nowhere else; name it by class in `job_logging`.

    Raises:
        ConfigError: the file lies outside of the folder, or is a link that leads out of it.
    """

    def __init__(self, filename: str) -> None:
        folder = run_folder()
        if folder.resolve() not in Path(filename).resolve().parents:
            raise ConfigError(
                f"hydra.job_logging.handlers.file.filename={filename}: this is not in the run's folder. "
                "Leave it out, or write ${hydra.runtime.output_dir}/NAME."
            )
        super().__init__(filename, encoding="utf-8", errors="backslashreplace")  # a message may hold any text
