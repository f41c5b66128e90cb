"""The table of a sweep: a row a setting, compared with a baseline, for the terminal, Markdown and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from rich.table import Table as RichTable
from rich.text import Text

from optwrap.sweep.names import label, short_names, short_number
from optwrap.sweep.report.paired import difference
from optwrap.sweep.report.results import Job, of_other_code
from optwrap.sweep.report.settings import (
    Setting,
    check_metrics,
    mean_and_spread,
    objective,
    ranked,
    settings,
    swept_keys,
)

MARK = "*"
OTHER_CODE = "†"

Row = dict[str, str]


@dataclass(frozen=True)
class Table:
    """Rows of equal columns, what is said below them, and the rows' numbers from the best mean down.

    `best` is the number of the best row; None where there is one alone, or nobody knows which way is up.
    """

    rows: list[Row]
    best: int | None = None
    notes: list[str] = field(default_factory=list)
    order: list[int] = field(default_factory=list)

    def shortened(self, most: int) -> Self:
        """Return at most so many rows, the best first, with a note on the rest."""
        if len(self.rows) <= most:
            return self
        rest = [number for number in range(len(self.rows)) if number not in set(self.order)]
        shown = [*self.order, *rest][:most]
        note = f"the best {most} of {len(self.rows)} settings: all are in table.csv"
        best = 0 if self.best is not None else None
        return replace(self, rows=[self.rows[n] for n in shown], best=best, notes=[note, *self.notes], order=[])


def make_table(jobs: Sequence[Job], metrics: Sequence[str], baseline: Setting | None = None) -> Table:
    """Return a row a setting: what was swept, its finished jobs, each metric's mean ± standard deviation.

    With a `baseline`, a column says by how much the objective differs from its, pair by pair of seeds and folds,
    with the 95 % interval. The best setting has a `*` where its interval over the next best one does not hold
    zero. A row with jobs that other code has made has a † after their number.

    Raises:
        ConfigError: no job has finished, or a metric is not in the results.
    """
    check_metrics(jobs, metrics)
    name, higher_is_better = objective(jobs)
    compared = settings(jobs)
    order = ranked(compared, name, higher_is_better)
    marked = name if name in metrics else metrics[0]
    starred, said = _of_best(order, name) if len(compared) > 1 else (False, "")
    other = of_other_code(jobs)
    names = short_names(swept_keys(jobs))
    rows = []
    for setting in compared:
        row = {names[key]: short_number(value) for key, value in setting.values.items()}
        row |= {"runs": _runs(setting, metrics[0], other)}
        row |= {metric: mean_and_spread(setting.metric(metric)) for metric in metrics}
        if starred and setting is order[0]:
            row[marked] += f" {MARK}"
        rows.append(row)
    notes = [said, _note_on_pruned(jobs), note_on_code(jobs, other)]
    numbers = {id(setting): number for number, setting in enumerate(compared)}
    ranks = [numbers[id(setting)] for setting in order]
    best = ranks[0] if ranks and len(compared) > 1 else None
    if baseline is not None:
        notes.insert(0, _add_differences(rows, compared, baseline, name))
    return Table(rows, best, [note for note in notes if note], ranks)


def _runs(setting: Setting, metric: str, other: Mapping[Path, Sequence[str]]) -> str:
    done = len(setting.metric(metric))
    text = str(done) if done == len(setting.jobs) else f"{done} of {len(setting.jobs)}"
    if pruned := sum(job.pruned for job in setting.jobs):
        text += " (pruned)" if pruned == len(setting.jobs) else f" ({pruned} pruned)"
    return text + f" {OTHER_CODE}" * any(job.folder in other for job in setting.jobs)


def _add_differences(rows: list[Row], compared: Sequence[Setting], baseline: Setting, name: str) -> str:
    """Give the rows their differences from the baseline, where pairs tell; return what the column is."""
    itself = [each.values == baseline.values for each in compared]
    found = [None if each.values == baseline.values else difference(each, baseline, name) for each in compared]
    if not any(each and each.interval for each in found):
        return ""
    for row, each, is_it in zip(rows, found, itself, strict=True):
        row["difference"] = "baseline" if is_it else str(each or "")
    what = "mean and 95 % interval over pairs of equal seed and fold"
    return f"difference: {name} less that of {_told(baseline)}, {what}"


def _of_best(order: Sequence[Setting], name: str) -> tuple[bool, str]:
    """Return whether the best setting is shown to be better than the next, and what is said of the two."""
    if len(order) < 2:
        return False, ""
    over = difference(order[0], order[1], name)
    lead = f"best mean: {_told(order[0])}"
    if over is None or over.interval is None:
        return False, f"{lead}; no {MARK}, since one run each shows no difference: repeat them, as by seed=0,1,2"
    by = f"{over} over {_told(order[1])} (95 %, {over.pairs} pairs)"
    if over.shows:
        return True, f"{MARK} {lead}, by {by}"
    needed = f"about {over.needed} pairs would show it" if over.needed else "more pairs would hardly show it"
    return False, f"{lead}; no {MARK}, since the interval holds zero: {by}; if it is so, {needed}"


def _told(setting: Setting) -> str:
    return label([f"{key}={value}" for key, value in setting.values.items()])


def _note_on_pruned(jobs: Sequence[Job]) -> str:
    pruned = sum(job.pruned for job in jobs)
    return (
        f"{pruned} of {len(jobs)} jobs were pruned: their numbers are those of where they ended" if pruned else ""
    )


def note_on_code(jobs: Sequence[Job], other: Mapping[Path, Sequence[str]]) -> str:
    """Return what the † means, with the files that differ; empty where one code has made all jobs."""
    files = sorted({name for names in other.values() for name in names})
    shown = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
    return (
        f"{OTHER_CODE} {len(other)} of {len(jobs)} jobs are of other code than the newest: {shown}"
        if other
        else ""
    )


def to_markdown(table: Sequence[Row]) -> str:
    """Return rows of equal columns as a Markdown table."""
    columns = list(table[0])
    cells = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in table)]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in cells) + "\n"


def _cell(text: str) -> str:
    """Return what Markdown shows as the text, in one line."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def to_csv(table: Sequence[Row]) -> str:
    """Return rows of equal columns as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def to_rich(table: Table) -> RichTable:
    """Return the table for a terminal, the best row in bold."""
    shown = RichTable(*table.rows[0])
    for number, row in enumerate(table.rows):
        shown.add_row(*(Text(cell) for cell in row.values()), style="bold green" if number == table.best else "")
    return shown
