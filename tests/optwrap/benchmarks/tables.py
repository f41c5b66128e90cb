"""Tables of timings."""

from dataclasses import dataclass
from typing import Any

from tests.optwrap.benchmarks.timing import Spread


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns, with a title and a note on how to read it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"### {self.title}", "", self.note, ""] if self.note else [f"### {self.title}", ""]
        lines += [_line(self.columns), _line(("---",) * len(self.columns)), *map(_line, self.rows)]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the table for JSON: a dict a row."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "note": self.note, "rows": rows}


def ratio(spread: Spread, digits: int = 2) -> str:
    """Return a ratio with its quartiles.

    >>> ratio(Spread(0.876, 0.86, 0.91))
    '0.88 (0.86 to 0.91)'
    """
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f} to {spread.high:.{digits}f})"


def milliseconds(spread: Spread) -> str:
    """Return a time.

    >>> milliseconds(Spread(0.0123, 0.012, 0.013))
    '12.3 ms'
    """
    value = spread.median * 1e3
    return f"{value:.3g} ms" if value < 1000 else f"{value:.0f} ms"


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
