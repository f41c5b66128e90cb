"""A picture's canvas: how each picture of a report is begun and finished, and how text and scales look in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


def canvas(width: float, height: float) -> tuple[Figure, Any]:
    """Return a new figure of so many inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)  # no pyplot: no global state, no display
    return figure, figure.subplots()


def finish(figure: Figure, axis: Any, title: str, png: Path, grid: bool = True) -> None:
    """Give the picture its title and write it."""
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    if grid:
        axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    figure.canvas.draw()
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
    # A third of the size of true colours, and a page holds several pictures.
    pixels.quantize(200, dither=Image.Dither.NONE).save(png, optimize=True)


def plain(text: str, length: int) -> str:
    """Return at most so many characters, on one line, of which matplotlib reads none as mathematics."""
    line = " ".join(text.split())
    return (line if len(line) <= length else line[: length - 3] + "...").replace("$", r"\$")


def spans_decades(numbers: Sequence[float]) -> bool:
    """Tell whether a logarithmic scale shows the numbers better."""
    return min(numbers) > 0 and max(numbers) > 30 * min(numbers)
