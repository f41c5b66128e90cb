"""A trained model as it is evaluated, with its task and data: from the folder of a finished run."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from optwrap.checkpoint.files import Checkpoints
from optwrap.checkpoint.model_state import load_evaluated, load_model
from optwrap.errors import ConfigError
from optwrap.program.naming import short
from optwrap.run.evaluation import recomputed_batch_norm
from optwrap.run.loaders import Loaders, load_data
from optwrap.run.parts import build_model, build_task
from optwrap.run.setup import set_up
from optwrap.use.samples import preprocessing_of
from optwrap.vision.files import ImageFiles


@dataclass(frozen=True)
class Trained:
    """The model of the run in `folder`, with weights of its `checkpoint`, after so many updates."""

    folder: Path
    cfg: Any
    model: nn.Module
    task: Any
    data: Loaders
    checkpoint: str
    weights: str
    updates: int | None
    files: Path | None = None

    def of_files(self, folder: Path) -> "Trained":
        """Return the same with images of a folder in place of test, prepared as those that it was trained on.

        Raises:
            ConfigError: the run's data does not say how it prepares images; as `ImageFiles`.
        """
        numbers = preprocessing_of(self.data.splits)
        if numbers is None or not numbers.keys() >= {"mean", "std", "image_size", "channels"}:
            raise ConfigError(
                f"data={folder}: the run's data does not say how it prepares images. Let it have an attribute "
                "preprocessing, a dict of mean, std, image_size and channels."
            )
        splits = replace(self.data.splits, test=ImageFiles(folder, numbers), collate_fn=None)
        return replace(self, data=replace(self.data, splits=splits), files=folder)

    def facts(self) -> dict[str, Any]:
        """Return what tells the weights, and what was typed to use them."""
        return {
            "run": short(self.folder),
            "checkpoint": self.checkpoint,
            "weights": self.weights,
            "updates": self.updates,
            "data": None if self.files is None else str(self.files),
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        }


@contextmanager
def trained(folder: Path, cfg: Any, checkpoint: str = "last", weights: str = "evaluated") -> Iterator[Trained]:
    """Build what `cfg` names and load the weights of `folder`; inside, the model is as the run evaluates it.

    `checkpoint` is last or best; `weights` are those that the run evaluates, as averages, or the raw ones.

    Raises:
        ConfigError: there is no such checkpoint, or a part cannot be built.
    """
    check_choice("checkpoint", checkpoint, ("last", "best"))
    check_choice("weights", weights, ("evaluated", "raw"))
    process = set_up(cfg)
    model = build_model(cfg, process)
    path, state = Checkpoints.of_run(folder).find(checkpoint, process.device)
    load_model(model, state, path)
    recompute = weights == "evaluated" and load_evaluated(model, state)
    task, data = build_task(cfg, model, process), load_data(cfg, process)
    with data, recomputed_batch_norm(task, data) if recompute else nullcontext():
        yield Trained(folder, cfg, model, task, data, checkpoint, weights, _updates(state))


def check_choice(key: str, value: str, options: tuple[str, ...]) -> None:
    """Raise ConfigError where the value is none of the options."""
    if value not in options:
        raise ConfigError(f"{key}={value}: it is {', '.join(options[:-1])} or {options[-1]}.")


def _updates(state: Mapping[str, Any]) -> int | None:
    """Return the updates that a checkpoint comes after; None where it does not say."""
    counters = state.get("counters")
    counts = [each.get("updates") for each in counters.values()] if isinstance(counters, Mapping) else []
    return min((each for each in counts if isinstance(each, int)), default=None)
