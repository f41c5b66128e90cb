"""A picture's canvas: how each picture of a report is begun and finished, and how text and scales look in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from optwrap.pictures import new_figure, without_math, write_small


def canvas(width: float, height: float) -> tuple[Figure, Any]:
    """Return a new figure of so many inches, and its axes."""
    figure = new_figure(width, height, layout="constrained")
    return figure, figure.subplots()


def finish(figure: Figure, axis: Any, title: str, png: Path, grid: bool = True) -> None:
    """Give the picture its title and write it."""
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    if grid:
        axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    write_small(figure, png, dpi=120)


def plain(text: str, length: int) -> str:
    """Return at most so many characters, on one line, of which matplotlib reads none as mathematics."""
    line = " ".join(text.split())
    return without_math(line if len(line) <= length else line[: length - 3] + "...")


def spans_decades(numbers: Sequence[float]) -> bool:
    """Tell whether a logarithmic scale shows the numbers better."""
    return min(numbers) > 0 and max(numbers) > 30 * min(numbers)
