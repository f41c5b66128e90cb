"""The table of a sweep: a row a setting, the best one marked, for the terminal, Markdown and CSV."""

import csv
import io
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from optwrap.sweep.names import short_names, short_number
from optwrap.sweep.report.results import Job, of_other_code
from optwrap.sweep.report.settings import best, check_metrics, mean_and_spread, objective, settings, swept_keys

MARK = "*"
OTHER_CODE = "†"


def rows(jobs: Sequence[Job], metrics: Sequence[str]) -> list[dict[str, str]]:
    """Return a row a setting: what was swept, its finished jobs, each metric's mean ± standard deviation.

    The best row by the jobs' objective has a `*` after the objective's cell; without the objective among the
    metrics, after that of the first metric. A row with jobs that other code has made has a † after their number.

    Raises:
        ConfigError: no job has finished, or a metric is not in the results.
    """
    check_metrics(jobs, metrics)
    name, higher_is_better = objective(jobs)
    compared = settings(jobs)
    first = best(compared, name, higher_is_better)
    names = short_names(swept_keys(jobs))
    marked = name if name in metrics else metrics[0]
    other = of_other_code(jobs)
    found = []
    for setting in compared:
        values = {metric: setting.metric(metric) for metric in metrics}
        done = len(setting.jobs) if not metrics else len(values[metrics[0]])
        row = {names[key]: short_number(value) for key, value in setting.values.items()}
        row["runs"] = str(done) if done == len(setting.jobs) else f"{done} of {len(setting.jobs)}"
        row["runs"] += f" {OTHER_CODE}" * any(job.folder in other for job in setting.jobs)
        row |= {metric: mean_and_spread(numbers) for metric, numbers in values.items()}
        if setting is first and len(compared) > 1:
            row[marked] += f" {MARK}"
        found.append(row)
    return found


def note_on_code(jobs: Sequence[Job]) -> str:
    """Return what the † means, with the files that differ; empty where one code has made all jobs."""
    other = of_other_code(jobs)
    files = sorted({name for names in other.values() for name in names})
    shown = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
    return (
        f"{OTHER_CODE} {len(other)} of {len(jobs)} jobs are of other code than the newest: {shown}"
        if other
        else ""
    )


def to_markdown(table: Sequence[dict[str, str]]) -> str:
    """Return rows of equal columns as a Markdown table."""
    columns = list(table[0])
    cells = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in table)]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in cells) + "\n"


def _cell(text: str) -> str:
    """Return what Markdown shows as the text, in one line."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def to_csv(table: Sequence[dict[str, str]]) -> str:
    """Return rows of equal columns as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def to_rich(table: Sequence[dict[str, str]]) -> Table:
    """Return rows of equal columns for a terminal, the best one in bold."""
    shown = Table(*table[0])
    for row in table:
        style = "bold green" if any(cell.endswith(f" {MARK}") for cell in row.values()) else ""
        shown.add_row(*(Text(cell) for cell in row.values()), style=style)
    return shown
