"""A picture of the samples that a model is worst at."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optwrap.pictures import new_figure, without_math, write_small
from optwrap.use.rows import CLASSES, Columns, Rows

_ACROSS = 4
_SIDE, _CAPTION, _GAP = 1.8, 0.65, 0.1  # of an image, in inches
_CALLED = {"target": "is", "prediction": "predicted"}


@dataclass(frozen=True)
class Sample:
    """One of the worst: how bad, its number, its image CxHxW and the lines below it."""

    badness: float
    index: int
    image: Tensor
    caption: str


@dataclass
class Worst:
    """Keeps the `count` worst samples of what it has seen: highest loss, or without one least sure.

    `preprocessing` has the mean and std by which images were normalised, if they were.
    """

    count: int
    rows: Rows
    preprocessing: Mapping[str, Any] | None = None
    samples: list[Sample] = field(default_factory=list)

    def see(self, inputs: Any, columns: Columns, first: int) -> None:
        """Look at a batch whose first sample is number `first`; what is no image leaves no trace."""
        badness = _badness(columns)
        if badness is None or not _are_images(inputs, len(badness)) or not self.count:
            return
        # NaN is as bad as can be.
        badness = badness.double().nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
        found = [
            Sample(
                badness[row].item(),
                first + row,
                inputs[row].detach().cpu().clone(),  # or it would hold its whole batch
                self._caption(columns, row, first + row),
            )
            for row in badness.topk(min(self.count, len(badness))).indices.tolist()
        ]
        self.samples = sorted([*self.samples, *found], key=lambda each: (-each.badness, each.index))[: self.count]

    def draw(self, png: Path) -> None:
        """Draw the samples, the worst first."""
        lines = math.ceil(len(self.samples) / _ACROSS)
        height = (_SIDE + _CAPTION) * lines
        figure = new_figure((_SIDE + _GAP) * _ACROSS, height)
        axes = figure.subplots(lines, _ACROSS, squeeze=False).flatten()
        figure.subplots_adjust(  # by hand: a layout that is computed takes a second
            **{"left": 0.01, "right": 0.99, "bottom": 0.05 / height, "top": 1 - (_CAPTION - 0.05) / height},
            **{"wspace": _GAP / _SIDE, "hspace": _CAPTION / _SIDE},
        )
        for axis in axes:
            axis.set_axis_off()
        for axis, sample in zip(axes, self.samples, strict=False):
            axis.imshow(_shown(sample.image, self.preprocessing), cmap="gray", vmin=0, vmax=1)
            axis.set_title(sample.caption, fontsize=8)
        write_small(figure, png, dpi=90)

    def _caption(self, columns: Columns, row: int, number: int) -> str:
        found = {name: each[row].item() for name, each in columns.items() if each.ndim == 1}
        lines = [f"{_CALLED[name]} {self._class(found[name])}" for name in CLASSES if name in found]
        probability = columns.get("probability")
        if probability is not None and lines:
            lines[-1] += f" ({probability[row].max().item():.0%})"
        lines += [f"loss {found['loss']:.3g}"] if "loss" in found else []
        return "\n".join([f"index {number}", *lines])

    def _class(self, value: float) -> str:
        return _short(self.rows.class_name(value) if isinstance(value, int) else f"{value:.4g}")


def _badness(columns: Columns) -> Tensor | None:
    loss, probability = columns.get("loss"), columns.get("probability")
    if loss is not None:
        return loss if loss.ndim == 1 else None
    return None if probability is None else -(probability.amax(dim=1) if probability.ndim == 2 else probability)


def _are_images(inputs: Any, count: int) -> bool:
    is_batch = isinstance(inputs, Tensor) and inputs.ndim == 4 and inputs.is_floating_point()
    return is_batch and len(inputs) == count and inputs.shape[1] in (1, 3)


def _shown(image: Tensor, numbers: Mapping[str, Any] | None) -> Any:
    """Return the image HxW or HxWx3 on the scale 0 to 1: by what it was normalised by, else by its range."""
    mean, std = ((numbers or {}).get(name) for name in ("mean", "std"))
    if _fits(mean, image) and _fits(std, image):
        shown = image * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    else:
        low, high = image.min(), image.max()
        shown = (image - low) / (high - low).clamp(min=1e-12)
    return shown.nan_to_num().clamp(0, 1).permute(1, 2, 0).squeeze(2).numpy()


def _fits(values: Sequence[float] | None, image: Tensor) -> bool:
    return isinstance(values, list | tuple) and len(values) == len(image)


def _short(name: str) -> str:
    shown = name if len(name) <= 14 else f"{name[:12]}..."
    return without_math(shown)
