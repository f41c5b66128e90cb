"""The curves of a run, drawn from its metrics.csv."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optwrap.files import REFERENCES, read_mapping
from optwrap.pictures import new_figure
from optwrap.record.progress import is_speed

Rows = Sequence[Mapping[str, str]]

# Not curves: where a row stands, and what belongs in the progress display.
NOT_PLOTTED = {"split", "epoch", "update", "seconds", "grad_norm", "skipped_steps"}
STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "#9db8d9", "linewidth": 1.2},
    "val": {"color": "#d1495b", "linewidth": 1.8, "marker": "o", "markersize": 3.5},
    "test": {"color": "#2e4057", "linestyle": "none", "marker": "*", "markersize": 11},
}


COLUMNS = 5
"""Panels side by side; a GAN with its metrics and learning rates fills two lines."""
WIDTH, HEIGHT = 4.2, 3.4
"""Inches of a panel, of which so many are for its labels and its title:"""
LEFT, RIGHT, BELOW, ABOVE = 0.9, 0.15, 0.55, 0.45


def plot_curves(metrics_csv: str | os.PathLike[str], png: str | os.PathLike[str]) -> None:
    """Draw loss, accuracy and other metrics, and the learning rate against updates, from one metrics.csv.

    Columns and splits that are missing, empty cells and NaN are left out; a panel without a number is not drawn.
    What `references.json` beside it has of a metric is drawn as lines.
    """
    with open(metrics_csv, newline="") as file:
        rows = list(csv.DictReader(file))
    panels = [name for name in _panel_names(rows) if any(_curve(rows, split, name)[0] for split in STYLES)]
    columns, lines = min(max(1, len(panels)), COLUMNS), -(-max(1, len(panels)) // COLUMNS)
    figure = new_figure(WIDTH * columns, HEIGHT * lines)
    axes = figure.subplots(lines, columns, squeeze=False, gridspec_kw=_margins(columns, lines)).flatten()
    references = read_mapping(Path(metrics_csv).with_name(REFERENCES))
    for axis, name in zip(axes, panels, strict=False):
        _draw(axis, rows, name)
        _draw_references(axis, references.get(name) or {})
    for axis in axes[max(1, len(panels)) :]:
        axis.set_visible(False)
    if not panels:
        axes[0].set_title("no numbers yet", loc="left")
    figure.savefig(png, dpi=130)


def _margins(columns: int, lines: int) -> dict[str, float]:
    """Return what room labels and titles are given; to measure them, as a layout engine does, doubles the time."""
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - BELOW - ABOVE
    return {
        "left": LEFT / (WIDTH * columns),
        "right": 1 - RIGHT / (WIDTH * columns),
        "bottom": BELOW / (HEIGHT * lines),
        "top": 1 - ABOVE / (HEIGHT * lines),
        "wspace": (LEFT + RIGHT) / inner_width,
        "hspace": (BELOW + ABOVE) / inner_height,
    }


def _draw_references(axis: Any, lines: Mapping[str, Any]) -> None:
    for number, (name, value) in enumerate(lines.items()):
        axis.axhline(value, color="#66707a", linestyle=("--", ":", "-.")[number % 3], linewidth=1)
        place = {"xy": (1, value), "xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axis.annotate(f"{name} {value:.4g}", fontsize=8, color="#66707a", **place)


def _panel_names(rows: Rows) -> list[str]:
    """Loss first, learning rates last; `generator.lr` is one as `lr` is."""
    names = [name for name in (rows[0] if rows else ()) if _is_plotted(name)]
    rates = [name for name in names if name.rpartition(".")[2] == "lr"]
    return ["loss", *(name for name in names if name not in {"loss", *rates}), *rates]


def _is_plotted(name: str) -> bool:
    return name.rpartition(".")[2] not in NOT_PLOTTED and not is_speed(name)


def _curve(rows: Rows, split: str, name: str) -> tuple[list[float], list[float]]:
    points = [(_number(row.get("update")), _number(row.get(name))) for row in rows if row["split"] == split]
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    return [x for x, _ in finite], [y for _, y in finite]


def _draw(axis: Any, rows: Rows, name: str) -> None:
    values: list[float] = []
    for split, style in STYLES.items():
        x, y = _curve(rows, split, name)
        if not x:
            continue
        alone = {"marker": "o"} if len(x) == 1 and "marker" not in style else {}
        axis.plot(x, y, label=f"{split} {y[-1]:.4g}" if split == "test" else split, **style, **alone)
        values += y
    if name == "loss" and min(values) > 0 and max(values) > 20 * min(values):
        axis.set_yscale("log")
    axis.set_title(name, loc="left", fontsize=11, fontweight="bold")
    axis.set_xlabel("update")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    if name.rpartition(".")[2] != "lr":
        axis.legend(frameon=False, fontsize=9)


def _number(cell: str | None) -> float:
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return math.nan
