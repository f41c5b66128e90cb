"""Export a run's model: write each format, run what was written, and keep it where both agree."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from optwrap.errors import ConfigError, did_you_mean
from optwrap.files import read_mapping, write_json
from optwrap.use.export.exportable import BATCH, Exportable, exportable
from optwrap.use.export.formats import FORMATS
from optwrap.use.export.metadata import as_texts, metadata_of
from optwrap.use.trained import Trained

RECORD = "export.json"
ROWS = (1, 5)
"""The sizes of the batches that a file is checked with; neither is the one that it was traced with."""


@dataclass(frozen=True)
class Exported:
    """A file, and by how much what it computes differs from the model at most; `scale` is their largest number."""

    name: str
    path: Path
    difference: float
    scale: float


def chosen_formats(typed: str) -> list[str]:
    """Return the formats of `to=`, which have what they need installed.

    Raises:
        ConfigError: one is unknown, or a package is missing.
    """
    names = [name.strip(" '\"") for name in typed.strip("[] ").split(",")]
    for name in names:
        if name not in FORMATS:
            hint = did_you_mean(name, FORMATS)
            raise ConfigError(f"to={typed}: {name!r} is none of {', '.join(FORMATS)}.{hint}")
        FORMATS[name].check_installed(f"to={name}")
    return list(dict.fromkeys(names))


def write_exports(it: Trained, names: Sequence[str], out: Path, tolerance: float) -> list[Exported]:
    """Write the model of a run to `out` in the formats `names`, in the place of earlier files; return them.

    Raises:
        ConfigError: a file computes something else than the model; it is moved to `out/differs`.
    """
    out.mkdir(parents=True, exist_ok=True)
    made = exportable(it, metadata_of(it))
    made = Exportable(made.model, made.inputs, {**made.metadata, **as_texts(_signature(made))})
    return [_export(made, name, out, tolerance) for name in names]


def _signature(made: Exportable) -> dict[str, Any]:
    """Return the names, shapes and types of what goes in and comes out."""
    inputs, outputs = zip(made.input_names, made.rows(1), strict=True), made.outputs(1)
    return {
        "inputs": [_described(name, each) for name, each in inputs],
        "outputs": [_described(name, each) for name, each in zip(made.output_names, outputs, strict=True)],
    }


def _described(name: str, tensor: Tensor) -> dict[str, Any]:
    return {"name": name, "shape": [BATCH, *tensor.shape[1:]], "dtype": str(tensor.dtype).removeprefix("torch.")}


def _export(made: Exportable, name: str, out: Path, tolerance: float) -> Exported:
    kind = FORMATS[name]
    with TemporaryDirectory(prefix=".export-", dir=out) as folder:
        path = Path(folder, kind.file)
        kind.write(made, path)
        found = [_difference(made, name, path, rows) for rows in ROWS]
        difference, scale = max(each for each, _ in found), max(each for _, each in found)
        agrees = all(each <= tolerance * max(1.0, own) for each, own in found)
        _move(Path(folder), out if agrees else out / "differs")
    if not agrees:
        raise ConfigError(
            f"to={name}: the exported model differs from the run's by {difference:.3g} of {scale:.3g}: "
            f"more than tolerance={tolerance:g}. It is {out / 'differs' / kind.file}."
        )
    _drop_earlier(out / "differs" / kind.file)
    done = Exported(name, out / kind.file, difference, scale)
    _record(made, done, tolerance)
    return done


@torch.no_grad()
def _difference(made: Exportable, name: str, path: Path, rows: int) -> tuple[float, float]:
    """Return by how much the file and the model differ at most on a batch, and the largest output of the model."""
    ours, theirs = made.outputs(rows), FORMATS[name].run(made, path, made.rows(rows))
    if [each.shape for each in ours] != [each.shape for each in theirs]:
        shapes = " and ".join(str([tuple(each.shape) for each in some]) for some in (theirs, ours))
        raise ConfigError(f"to={name}: of {rows} samples the exported model and the run's make {shapes}.")
    pairs = [(one.double(), other.double()) for one, other in zip(ours, theirs, strict=True)]
    # A NaN stays one, and is no agreement.
    differences = torch.stack([(one - other).abs().max() for one, other in pairs])
    return differences.max().item(), max(one.abs().max().item() for one, _ in pairs)


def _move(folder: Path, to: Path) -> None:
    """Move what lies in a folder: an ONNX model of more than 2 GB has its weights in a file beside it."""
    to.mkdir(exist_ok=True)
    for path in folder.iterdir():
        os.replace(path, to / path.name)


def _drop_earlier(path: Path) -> None:
    """Remove what differed at an earlier call, and its folder where nothing else is in it."""
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()


def _record(made: Exportable, done: Exported, tolerance: float) -> None:
    """Write what is known of a file beside what is known of files of other formats."""
    path = done.path.with_name(RECORD)
    about = {
        "file": done.path.name,
        "bytes": done.path.stat().st_size,
        "max_difference": done.difference,
        "largest_output": done.scale,
        "tolerance": tolerance,
        "batches": list(ROWS),
        "metadata": dict(made.metadata),
    }
    write_json(path, {**read_mapping(path), done.name: about})
