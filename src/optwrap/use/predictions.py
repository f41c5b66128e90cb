"""What `predict.py` writes of a run: a row of CSV a sample, and a picture of the worst."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from optwrap.errors import ConfigError
from optwrap.files import replacing, write_json
from optwrap.run.data.splits import is_stream, length_of
from optwrap.sweep.report.page import PREDICTIONS
from optwrap.use.rows import Rows, predict_step
from optwrap.use.samples import classes_of, inputs_of, names_of, preprocessing_of
from optwrap.use.trained import Trained
from optwrap.use.worst import Worst


@dataclass
class Predicted:
    """What came of it: the files, so many rows, and the mean of each column of numbers that are no classes."""

    files: list[Path]
    rows: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """The mean of each."""
        return {name: value / self.rows for name, value in self.sums.items()}

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Count the rows of a batch."""
        self.rows += len(next(iter(columns.values())))
        for name, each in columns.items():
            if each.ndim == 1 and (each.is_floating_point() or each.dtype == torch.bool):
                self.sums[name] = self.sums.get(name, 0.0) + each.double().sum().item()


def predictions_file(folder: Path, split: str, data: str, out: str) -> Path:
    """Return where predictions go: `out`, or a file of the run in `folder`, named for the split or for `data`.

    Raises:
        ConfigError: `out` is no CSV, or its folder is not there.
    """
    if not out:
        return folder / PREDICTIONS / (f"data_{Path(data).resolve().name}.csv" if data else f"{split}.csv")
    path = Path(out)
    if path.suffix != ".csv" or path.is_dir():
        raise ConfigError(f"out={out}: name a file, such as {path.with_suffix('')}.csv.")
    if path.parent.resolve() == folder.resolve():  # where metrics.csv is
        raise ConfigError(f"out={out}: this is the run's own folder. Leave out= out, or name another place.")
    if not path.parent.is_dir():
        raise ConfigError(f"out={out}: there is no folder {path.parent}. Make it first.")
    return path


@torch.no_grad()
def write_predictions(it: Trained, split: str, path: Path, worst: int) -> Predicted:
    """Write a row a sample of `split`, in its order, to `path`; beside it the `worst` as a picture, and facts.

    The files take the place of earlier ones when all samples are predicted; until then these stay.

    Raises:
        ConfigError: there is no such split, or it has no end; as `predict_step`.
    """
    samples, splits = it.data.splits.evaluated(split), it.data.splits
    if is_stream(samples) and split == "train" and length_of(samples) is None:
        raise ConfigError("split=train: data.train is a stream that does not say its length. Predict val or test.")
    rows = Rows(classes_of(splits), names_of(samples))
    numbers = preprocessing_of(splits)
    hardest, done = Worst(worst, rows, numbers), Predicted([path])
    picture, about = path.with_name(f"{path.stem}_worst.png"), path.with_name(f"{path.stem}_facts.json")
    if path.parent.name == PREDICTIONS:
        path.parent.mkdir(exist_ok=True)
    it.model.eval()
    with replacing(path) as file:
        for batch in it.data.evaluation(split):
            columns = predict_step(it.task, batch)
            if not done.rows:
                file.write(rows.header(columns).encode())
            file.write(rows.lines(columns, done.rows).encode())
            hardest.see(inputs_of(batch), columns, done.rows)
            done.add(columns)
        for stale in (picture, about):
            stale.unlink(missing_ok=True)
    if hardest.samples:
        hardest.draw(picture)
        done.files.append(picture)
    facts = {"split": None if it.files else split, **it.facts(), "preprocessing": numbers}
    write_json(about, {**facts, "rows": done.rows, "mean": done.means})
    return done
