"""The report as one HTML page that needs nothing else: no network, no files beside it."""

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from optwrap.sweep.names import label
from optwrap.sweep.report.results import Job
from optwrap.sweep.report.table import Table

MOST_ROWS = 200  # of a table: a page of a thousand jobs stays one that opens at once
STYLE = """
:root { color-scheme: light dark; --line: light-dark(#dde3ea, #39424e); --head: light-dark(#f3f6f9, #1d242c); }
:root { --best: light-dark(#e7f5ec, #173d28); --soft: light-dark(#5b6673, #9aa7b4); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
table { display: block; overflow: auto; max-height: 70vh; }
th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { cursor: pointer; background: var(--head); position: sticky; top: 0; }
th::after { content: " \\2195"; color: var(--soft); }
tr.best td { background: var(--best); font-weight: 600; }
img { max-width: 100%; margin: 1rem 0; background: #fff; }
pre { white-space: pre-wrap; margin: 0; }
p.note { color: var(--soft); }
"""

PREDICTIONS = "predictions"
"""The folder in a run's for what `predict.py` writes."""
_MOST_BYTES = 450_000  # of pictures of worst samples in one page

# A click on a heading sorts by its column: by number where both cells begin with one, else by text.
SCRIPT = """
document.querySelectorAll('th').forEach(heading => heading.onclick = () => {
  const column = heading.cellIndex;
  const body = heading.closest('table').tBodies[0], down = heading.dataset.down !== '1';
  const cell = row => row.cells[column].textContent;
  const order = (a, b) => {
    const difference = parseFloat(cell(a)) - parseFloat(cell(b));
    return isNaN(difference) ? cell(a).localeCompare(cell(b)) : difference;
  };
  [...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)).forEach(row => body.append(row));
  heading.dataset.down = down ? '1' : '';
});
"""


def page(
    title: str,
    table: Table,
    pictures: Sequence[Path],
    jobs: Sequence[Job],
    folder: Path,
    about: str = "",
) -> str:
    """Return the page: the table, the pictures, and all jobs with links to their folders, failed ones first.

    `about` says when it was made and by which command; the page lies in `folder`.
    """
    table = table.shortened(MOST_ROWS)
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="note">{escape(about)}</p>' if about else "", _table(table)]
    parts += [f'<p class="note">{escape(note)}</p>' for note in table.notes]
    parts += [_picture(path) for path in pictures]
    parts += _worst(jobs, folder)
    others = [job for job in jobs if job.status != "finished"]
    if others:
        parts.append(f"<h2>Not finished: {len(others)}</h2>{_jobs(others, folder)}")  # each, with its error
    if done := [job for job in jobs if job.status == "finished"]:
        rest = f'<p class="note">and {len(done) - MOST_ROWS} more, all in results.csv</p>' * (
            len(done) > MOST_ROWS
        )
        parts.append(f"<h2>Finished: {len(done)}</h2>{_jobs(done[:MOST_ROWS], folder)}{rest}")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    body = "\n".join([*parts, f"<script>{SCRIPT}</script>"])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _table(table: Table) -> str:
    heads = "".join(f'<th title="click to sort">{escape(name)}</th>' for name in table.rows[0])
    lines = []
    for number, row in enumerate(table.rows):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.values())
        lines.append(f'<tr class="best">{cells}</tr>' if number == table.best else f"<tr>{cells}</tr>")
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{escape(path.stem)}" src="data:image/png;base64,{data}"></p>'


def _worst(jobs: Sequence[Job], folder: Path) -> list[str]:
    """Show the pictures of worst samples that `predict.py` has left, those that there is no room for by a link."""
    parts, room = [], _MOST_BYTES
    for job in jobs:
        for path in sorted((job.folder / PREDICTIONS).glob("*_worst.png")):
            link = f'<a href="{escape(quote(os.path.relpath(path, folder)))}">{escape(path.name)}</a>'
            parts.append(f"<p>{link} of {escape(job.folder.name)}</p>")
            if (size := path.stat().st_size) <= room:
                room -= size
                parts.append(_picture(path))
    return ["<h2>Worst samples</h2>", *parts] if parts else []


def _jobs(jobs: Sequence[Job], folder: Path) -> str:
    rows = []
    for job in jobs:
        told = label([f"{key}={value}" for key, value in job.overrides.items()])
        error = job.record.error if job.record else ""
        link = f'<a href="{escape(quote(os.path.relpath(job.folder, folder)))}">{escape(job.folder.name)}</a>'
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in (job.status, told))
        rows.append(f"<td>{link}</td>{cells}<td><pre>{escape(error)}</pre></td>")
    heads = "".join(f"<th>{name}</th>" for name in ("job", "status", "told", "error"))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
