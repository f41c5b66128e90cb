"""The report as one HTML page that needs nothing else: no network, no files beside it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from optwrap.sweep.names import label
from optwrap.sweep.report.results import Job
from optwrap.sweep.report.table import MARK

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
table { display: block; overflow: auto; max-height: 70vh; }
th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #dde3ea; white-space: nowrap; }
th { cursor: pointer; background: #f3f6f9; position: sticky; top: 0; }
tr.best td { background: #e7f5ec; font-weight: 600; }
img { max-width: 100%; margin: 1rem 0; }
pre { white-space: pre-wrap; margin: 0; }
"""

# A click on a heading sorts by its column: by number where both cells begin with one, else by text.
SCRIPT = """
document.querySelectorAll('th').forEach((heading, column) => heading.onclick = () => {
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


def page(title: str, table: Sequence[Mapping[str, str]], pictures: Sequence[Path], others: Sequence[Job]) -> str:
    """Return the page: the table, the pictures, and the jobs that have not finished with their errors."""
    parts = [f"<h1>{escape(title)}</h1>", _table(table)]
    parts += [_picture(path) for path in pictures]
    if others:
        parts.append(f"<h2>Not finished: {len(others)}</h2>{_unfinished(others)}")
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join([*parts, f"<script>{SCRIPT}</script>"])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _table(table: Sequence[Mapping[str, str]]) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in table[0])
    lines = []
    for row in table:
        best = any(cell.endswith(f" {MARK}") for cell in row.values())
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.values())
        lines.append(f'<tr class="best">{cells}</tr>' if best else f"<tr>{cells}</tr>")
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{escape(path.stem)}" src="data:image/png;base64,{data}"></p>'


def _unfinished(jobs: Sequence[Job]) -> str:
    rows = []
    for job in jobs:
        told = label([f"{key}={value}" for key, value in job.overrides.items()])
        error = job.record.error if job.record else ""
        cells = (job.folder.name, job.status, told)
        rows.append("".join(f"<td>{escape(cell)}</td>" for cell in cells) + f"<td><pre>{escape(error)}</pre></td>")
    return f"<table><tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table>"
