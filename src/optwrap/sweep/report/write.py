"""The report on a sweep: its table as CSV and Markdown, pictures, and one page with all of it."""

import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import rich

from optwrap.files import read_json, write_text
from optwrap.sweep.report import plots
from optwrap.sweep.report.baseline import default_baseline, named_baseline
from optwrap.sweep.report.page import page
from optwrap.sweep.report.results import Job, read_jobs, write_results_csv
from optwrap.sweep.report.search import draw_front, draw_importances, front, importances, objectives_of
from optwrap.sweep.report.settings import default_metrics, finite, objective, settings, swept_keys
from optwrap.sweep.report.table import Row, Table, make_table, to_csv, to_markdown, to_rich
from optwrap.sweep.search.trials import Search, read_search

MOST_PRINTED = 40  # settings that a reader of a terminal looks through


def make_report(folder: Path, metrics: Sequence[str] | None = None, baseline: Sequence[str] | None = None) -> None:
    """Print the table of the jobs and runs below `folder`; write results.csv and `report/`, and name the files.

    `metrics` are its columns; None: `default_metrics`, and the objectives of a search. `baseline` names a setting,
    KEY=VALUE each; None: that of the config's own values, where it is one of them.

    Raises:
        ConfigError: there are no jobs, none has finished, a metric is not in the results, or no setting is the
            baseline.
    """
    jobs, search = read_jobs(folder), read_search(folder)
    files = [write_results_csv(folder, jobs)]
    try:
        metrics = metrics or list(dict.fromkeys([*default_metrics(jobs), *(search.objectives if search else ())]))
        compared = settings(jobs)
        named = named_baseline(compared, baseline) if baseline else default_baseline(compared, jobs)
        table = make_table(jobs, metrics, named)
        if search is not None and len(search.objectives) > 1:
            _mark_front(table.rows, jobs, search, folder)
        _show(table)
        files += write_report(folder, jobs, table, search)
    finally:
        print("\n".join(os.path.relpath(file) for file in files))


def _show(table: Table) -> None:
    """Print the table or its best rows, in Markdown where the output is no terminal."""
    table = table.shortened(MOST_PRINTED)
    if rich.get_console().is_terminal:
        rich.print(to_rich(table))
    else:
        print(to_markdown(table.rows))
    print("".join(f"{note}\n" for note in table.notes))


def write_report(folder: Path, jobs: Sequence[Job], table: Table, search: Search | None = None) -> list[Path]:
    """Write `report/` into the sweep's folder: the table twice, the pictures, index.html; return the files."""
    out = folder / "report"
    out.mkdir(exist_ok=True)
    write_text(out / "table.csv", to_csv(table.rows))
    notes = "".join(f"\n{note}\n" for note in table.notes)
    write_text(out / "table.md", to_markdown(table.rows) + notes)
    pictures = draw(jobs, out, search)
    write_text(out / "index.html", page(str(folder), table, pictures, jobs, out, _about(folder)))
    return [out / "table.csv", out / "table.md", *pictures, out / "index.html"]


def _about(folder: Path) -> str:
    """Say when the report was made, and by which command the sweep began, where that is known."""
    made = f"{datetime.now():%Y-%m-%d %H:%M}"
    try:
        overrides = read_json(folder / "sweep.json")["overrides"]
    except (OSError, ValueError, LookupError, TypeError):
        return made
    return f"{made}: python train.py -m {shlex.join(map(str, overrides))}"


def _mark_front(rows: Sequence[Row], jobs: Sequence[Job], search: Search, folder: Path) -> None:
    on_it = {folder / job for trial in front(search) for job in trial.jobs}
    for row, setting in zip(rows, settings(jobs), strict=True):
        row["front"] = "yes" if any(job.folder in on_it for job in setting.jobs) else ""


def draw(jobs: Sequence[Job], out: Path, search: Search | None = None) -> list[Path]:
    """Draw what the jobs can show: settings and curves; a heat map of two swept numbers; more keys in parallel.

    Of a search also what its keys matter, and the front of two objectives.
    """
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
    if search is not None:
        drawn += _draw_search(search, metric, out)
    optional = {"heat_map.png", "parallel.png", "importance.png", "front.png"}
    for stale in optional - {path.name for path in drawn}:
        (out / stale).unlink(missing_ok=True)  # of an earlier report on fewer keys
    return drawn


def _draw_search(search: Search, metric: str, out: Path) -> list[Path]:
    objectives, drawn = objectives_of(search, metric), []
    if shares := importances(search, objectives):
        draw_importances(shares, out / "importance.png")
        drawn.append(out / "importance.png")
    if len(objectives) == 2 and front(search):
        draw_front(search, objectives, out / "front.png")
        drawn.append(out / "front.png")
    return drawn
