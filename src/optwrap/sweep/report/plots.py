"""Pictures of a sweep: its settings side by side, their learning curves, and what the swept values do."""

import csv
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from optwrap.sweep.names import short_names, short_number
from optwrap.sweep.report.canvas import canvas, finish, plain, spans_decades
from optwrap.sweep.report.settings import Setting, finite

MOST_ROWS = 40  # settings in one picture that a reader can still tell apart
MOST_CURVES = 8
COLORS = matplotlib.colormaps["viridis"]


def plot_settings(compared: Sequence[Setting], metric: str, higher_is_better: bool | None, png: Path) -> None:
    """Draw the metric of each setting, a dot a job, the mean and its standard deviation; the best on top."""
    ranked = _ranked(compared, metric, higher_is_better)
    shown = ranked[:MOST_ROWS]
    figure, axis = canvas(8, 1.3 + 0.32 * max(2, len(shown)))
    for row, setting in enumerate(shown):
        values = finite(setting.metric(metric))
        axis.plot(values, [row] * len(values), "o", color="#9db8d9", markersize=4, zorder=2)
        spread = statistics.stdev(values) if len(values) > 1 else 0
        color = "#d1495b" if row == 0 else "#2e4057"
        axis.errorbar(statistics.mean(values), row, xerr=spread, fmt="D", color=color, capsize=3, markersize=5)
    axis.set_yticks(range(len(shown)), [_label(setting) for setting in shown], fontsize=9)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.set_xlabel("mean ± standard deviation, a dot a job")
    some = f": the best {len(shown)} of {len(ranked)} settings" if len(ranked) > len(shown) else ""
    finish(figure, axis, f"{metric}{some}", png)


def plot_curves(compared: Sequence[Setting], metric: str, higher_is_better: bool | None, png: Path) -> None:
    """Draw the metric against updates, the mean over each setting's jobs; the best settings in colour."""
    split, _, name = metric.partition("/")
    ranked = _ranked(compared, metric, higher_is_better)
    figure, axis = canvas(8, 4.2)
    for rank, setting in reversed(list(enumerate(ranked))):
        curves = [curve for job in setting.jobs if (curve := _curve(job.folder, split, name))]
        updates = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
        means = [statistics.mean(curve[update] for curve in curves) for update in updates]
        spread = [statistics.stdev([c[update] for c in curves]) if len(curves) > 1 else 0 for update in updates]
        in_colour = rank < MOST_CURVES
        color = COLORS(rank / max(1, min(len(ranked), MOST_CURVES) - 1) * 0.9) if in_colour else "#dddddd"
        point = {"marker": "o"} if len(updates) == 1 else {}
        axis.plot(updates, means, color=color, label=_label(setting) if in_colour else None, **point)
        if in_colour and len(curves) > 1:
            low, high = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
            axis.fill_between(updates, low, high, color=color, alpha=0.15, linewidth=0)
    axis.set_xlabel("update")
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles[::-1], labels[::-1], frameon=False, fontsize=8, loc="best")
    rest = f"; grey: {len(ranked) - MOST_CURVES} more" if len(ranked) > MOST_CURVES else ""
    finish(figure, axis, f"{metric}: mean over jobs, best settings first{rest}", png)


def plot_heat_map(compared: Sequence[Setting], keys: Sequence[str], metric: str, png: Path) -> None:
    """Draw the metric over two swept numbers: a cell a setting, or a dot where they make no full grid."""
    first, second = keys
    points = {
        (float(s.values[first]), float(s.values[second])): statistics.mean(values)
        for s in compared
        if (values := finite(s.metric(metric)))
    }
    columns, lines = (sorted({point[axis] for point in points}) for axis in (0, 1))
    names = short_names(keys)
    figure, axis = canvas(7, 4.6)
    if len(points) > 0.6 * len(columns) * len(lines):
        grid = [[points.get((x, y), math.nan) for x in columns] for y in lines]
        picture: Any = axis.imshow(grid, aspect="auto", origin="lower", cmap=COLORS)
        _write_cells(axis, grid, picture)
        axis.set_xticks(range(len(columns)), [f"{x:g}" for x in columns])
        axis.set_yticks(range(len(lines)), [f"{y:g}" for y in lines])
    else:
        xs, ys = zip(*points, strict=True)
        picture = axis.scatter(xs, ys, c=list(points.values()), cmap=COLORS, s=45)
        axis.set_xscale("log" if spans_decades(columns) else "linear")
        axis.set_yscale("log" if spans_decades(lines) else "linear")
    axis.set_xlabel(names[first])
    axis.set_ylabel(names[second])
    figure.colorbar(picture, ax=axis, label=metric)
    finish(figure, axis, metric, png, grid=False)


def plot_parallel(compared: Sequence[Setting], keys: Sequence[str], metric: str, png: Path) -> None:
    """Draw a line a setting through an axis a swept key, and one for the metric, which gives the colour."""
    scores = [statistics.mean(values) for s in compared if (values := finite(s.metric(metric)))]
    shown = [setting for setting in compared if finite(setting.metric(metric))]
    columns = [_positions([setting.values[key] for setting in shown]) for key in keys]
    columns.append(_positions([f"{score:.4g}" for score in scores]))
    lines = [[(x, column[0][row]) for x, column in enumerate(columns)] for row in range(len(shown))]
    figure, axis = canvas(1.9 * len(columns) + 1, 4.6)
    norm = Normalize(min(scores), max(scores))
    drawn = LineCollection(lines, cmap=COLORS, norm=norm, alpha=0.8 if len(shown) < 40 else 0.45, linewidths=1.6)
    drawn.set_array(scores)
    axis.add_collection(drawn)
    behind = {"color": "white", "alpha": 0.7, "pad": 1}
    for x, (_, ticks) in enumerate(columns):
        axis.axvline(x, color="#2e4057", linewidth=0.8)
        for text, position in ticks:
            axis.text(x + 0.02, position, plain(text, 24), fontsize=8, va="center", bbox=behind)
    names = short_names(keys)
    axis.set_xticks(range(len(columns)), [*(names[key] for key in keys), metric], fontsize=9)
    axis.set(yticks=[], xlim=(-0.1, len(columns) - 0.6), ylim=(-0.06, 1.06))
    figure.colorbar(drawn, ax=axis, label=metric)
    finish(figure, axis, f"{metric} by setting", png, grid=False)


def is_number(values: Sequence[str]) -> bool:
    """Tell whether every value reads as a finite number."""
    try:
        return all(math.isfinite(float(value)) for value in values)
    except ValueError:
        return False


def _ranked(compared: Sequence[Setting], metric: str, higher_is_better: bool | None) -> list[Setting]:
    """Return the settings that have a number, best first, and those with a NaN or an infinity after all others."""

    def rank(setting: Setting) -> tuple[bool, float]:
        values = setting.metric(metric)
        mean = statistics.mean(finite(values))
        return finite(values) != values, mean if higher_is_better is False else -mean

    return sorted((setting for setting in compared if finite(setting.metric(metric))), key=rank)


def _label(setting: Setting) -> str:
    names = short_names(list(setting.values))
    text = "  ".join(f"{names[key]}={short_number(value)}" for key, value in setting.values.items()) or "all jobs"
    return plain(text, 60).lstrip("_")  # a legend leaves out what begins with _


def _curve(folder: Path, split: str, name: str) -> dict[int, float]:
    """Return the metric of a job's evaluations by update."""
    try:
        with (folder / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("split") == split and row.get(name)]
        points = {int(row["update"]): float(row[name]) for row in rows}
    except (OSError, ValueError, KeyError):
        return {}
    return {update: value for update, value in points.items() if math.isfinite(value)}


def _positions(values: Sequence[str]) -> tuple[list[float], list[tuple[str, float]]]:
    """Return where each value stands on an axis from 0 to 1, and the ticks: numbers to scale, words evenly."""
    if not is_number(values):
        words = list(dict.fromkeys(values))
        place = {word: index / max(1, len(words) - 1) for index, word in enumerate(words)}
        return [place[value] for value in values], list(place.items())
    numbers = [float(value) for value in values]
    scale = math.log if spans_decades(numbers) else float
    low, high = scale(min(numbers)), scale(max(numbers))
    heights = [(scale(number) - low) / ((high - low) or 1) for number in numbers]
    ticks = sorted(set(zip(numbers, heights, strict=True)), key=lambda tick: tick[1])
    step = max(1, -(-len(ticks) // 7))  # 7 ticks can be read
    return heights, [(f"{number:.3g}", height) for number, height in [*ticks[:-1:step], ticks[-1]]]


def _write_cells(axis: Any, grid: Sequence[Sequence[float]], picture: Any) -> None:
    if len(grid) * len(grid[0]) > 100:
        return  # too small to read
    for line, row in enumerate(grid):
        for column, value in enumerate(row):
            if math.isfinite(value):
                color = "black" if picture.norm(value) > 0.6 else "white"
                axis.text(column, line, f"{value:.4g}", ha="center", va="center", color=color, fontsize=9)
