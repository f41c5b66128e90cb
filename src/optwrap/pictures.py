"""How each picture is begun and written: no pyplot, no display, small files.

matplotlib and pillow are loaded with the first picture: they take half a second, and a run draws at its end.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optwrap.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, **options: Any) -> "Figure":
    """Return a new figure of so many inches; `options` are matplotlib's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), **options)
    FigureCanvasAgg(figure)  # no pyplot: no global state, no display
    return figure


def write_small(figure: "Figure", png: Path, dpi: int) -> None:
    """Write a figure in 256 colours: a third of the size of true ones, and a page holds several pictures."""
    from PIL import Image

    figure.set_dpi(dpi)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    small = io.BytesIO()
    picture = Image.fromarray(pixels).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(small, "png", optimize=True)
    write_bytes(png, small.getvalue())


def without_math(text: str) -> str:
    """Return a text of which matplotlib reads no part as mathematics."""
    return text.replace("$", r"\$")
