"""The curve of a learning rate range test: its suggestion, its file and its picture."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from optwrap.pictures import new_figure

Point = tuple[float, float, float]
"""Learning rate, loss of its update, smoothed loss."""


def suggestion(points: Sequence[Point]) -> float | None:
    """Return the lr at which the smoothed loss falls steepest over log lr, before its least; None: it never falls.

    >>> suggestion([(0.01, 0, 3.0), (0.1, 0, 2.9), (1.0, 0, 1.0), (10.0, 0, 0.9), (100.0, 0, 5.0)])
    0.1
    """
    smooth = [point[2] for point in points]
    if len(points) < 3:
        return None
    least = min(range(len(smooth)), key=smooth.__getitem__)
    slopes = {
        i: (smooth[i + 1] - smooth[i - 1]) / math.log(points[i + 1][0] / points[i - 1][0])
        for i in range(1, min(least, len(points) - 2) + 1)
    }
    steepest = min(slopes, key=slopes.__getitem__, default=None)
    return None if steepest is None or slopes[steepest] >= 0 else points[steepest][0]


def write(path: Path, points: Sequence[Point]) -> None:
    """Write the curve as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["lr", "loss", "smoothed"])
        writer.writerows([f"{value:.10g}" for value in point] for point in points)


def draw(path: Path, points: Sequence[Point], lr: float | None) -> None:
    """Draw the curve, and where the suggested lr is."""
    figure = new_figure(6.4, 4.0, layout="constrained")
    axis = figure.subplots()
    axis.plot([point[0] for point in points], [point[1] for point in points], color="#9db8d9", label="loss")
    axis.plot([point[0] for point in points], [point[2] for point in points], color="#d1495b", label="smoothed")
    if lr is not None:
        axis.axvline(lr, color="#2e4057", linestyle="--", label=f"lr {lr:.2g}")
    axis.set_xscale("log")
    axis.set_xlabel("base lr")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
