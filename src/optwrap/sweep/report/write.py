"""The report on a sweep: its table as CSV and Markdown, pictures, and one page with all of it."""

import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import rich

from optwrap.files import read_json, write_text
from optwrap.sweep.report import plots
from optwrap.sweep.report.page import page
from optwrap.sweep.report.results import Job, read_jobs, write_results_csv
from optwrap.sweep.report.settings import default_metrics, finite, objective, settings, swept_keys
from optwrap.sweep.report.table import note_on_code, rows, to_csv, to_markdown, to_rich


def make_report(folder: Path, metrics: Sequence[str] | None = None) -> None:
    """Print the table of the jobs and runs below `folder`; write results.csv and `report/`, and name the files.

    `metrics` are its columns; None: `default_metrics`.

    Raises:
        ConfigError: there are no jobs, none has finished, or a metric is not in the results.
    """
    jobs = read_jobs(folder)
    files = [write_results_csv(folder, jobs)]
    try:
        metrics = metrics or default_metrics(jobs)
        _show(rows(jobs, metrics))
        if note := note_on_code(jobs):
            print(f"{note}\n")
        files += write_report(folder, jobs, metrics)
    finally:
        print("\n".join(os.path.relpath(file) for file in files))


def _show(table: Sequence[dict[str, str]]) -> None:
    """Print the table, in Markdown where the output is no terminal."""
    if rich.get_console().is_terminal:
        rich.print(to_rich(table))
    else:
        print(to_markdown(table))


def write_report(folder: Path, jobs: Sequence[Job], metrics: Sequence[str]) -> list[Path]:
    """Write `report/` into the sweep's folder: table.csv, table.md, the pictures and index.html; return the files.

    Raises:
        ConfigError: no job has finished, or a metric is not in the results.
    """
    table = rows(jobs, metrics)
    out = folder / "report"
    out.mkdir(exist_ok=True)
    write_text(out / "table.csv", to_csv(table))
    note = note_on_code(jobs)
    write_text(out / "table.md", to_markdown(table) + (f"\n{note}\n" if note else ""))
    pictures = draw(jobs, out)
    write_text(out / "index.html", page(str(folder), table, pictures, jobs, out, " ".join([_about(folder), note])))
    return [out / "table.csv", out / "table.md", *pictures, out / "index.html"]


def _about(folder: Path) -> str:
    """Say when the report was made, and by which command the sweep began, where that is known."""
    made = f"{datetime.now():%Y-%m-%d %H:%M}"
    try:
        overrides = read_json(folder / "sweep.json")["overrides"]
    except (OSError, ValueError, LookupError, TypeError):
        return made
    return f"{made}: python train.py -m {shlex.join(map(str, overrides))}"


def draw(jobs: Sequence[Job], out: Path) -> list[Path]:
    """Draw what the jobs can show: settings and curves; a heat map of two swept numbers; more keys in parallel."""
    metric, higher_is_better = objective(jobs)
    compared = settings(jobs)
    keys = swept_keys(jobs)
    plots.plot_settings(compared, metric, higher_is_better, out / "settings.png")
    plots.plot_curves(compared, metric, higher_is_better, out / "curves.png")
    drawn = [out / "settings.png", out / "curves.png"]
    done = [setting for setting in compared if finite(setting.metric(metric))]
    numbers = [key for key in keys if plots.is_number([setting.values[key] for setting in done])]
    if len(done) > 1 and len(keys) == len(numbers) == 2:
        plots.plot_heat_map(done, keys, metric, out / "heat_map.png")
        drawn.append(out / "heat_map.png")
    if len(done) > 1 and len(keys) > 2:
        plots.plot_parallel(done, keys, metric, out / "parallel.png")
        drawn.append(out / "parallel.png")
    for stale in {"heat_map.png", "parallel.png"} - {path.name for path in drawn}:
        (out / stale).unlink(missing_ok=True)  # of an earlier report on fewer keys
    return drawn
