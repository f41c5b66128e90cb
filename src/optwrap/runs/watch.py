"""A table of what runs now, which moves."""

import time
from pathlib import Path

import rich
from rich.live import Live

from optwrap.runs.listing import lines, to_table
from optwrap.runs.read import Run, find_runs


def watch(root: Path, every: float = 2.0) -> None:
    """Show the runs in and below a folder that run now, and those that ended since, until Ctrl-C.

    Where the output is no terminal, once.
    """
    seen = {run.folder for run in _running(root)}
    with Live(to_table(lines(_these(seen), root)), refresh_per_second=4) as live:
        while rich.get_console().is_terminal:
            time.sleep(every)
            seen |= {run.folder for run in _running(root)}
            live.update(to_table(lines(_these(seen), root)))


def _running(root: Path) -> list[Run]:
    return [run for run in find_runs(root) if run.status == "running"]


def _these(folders: set[Path]) -> list[Run]:
    return [Run(folder) for folder in sorted(folders) if folder.is_dir()]
