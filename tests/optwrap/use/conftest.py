"""A short run on digits, trained once for all tests that only look at it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from optwrap import vision

SHORT = ("max_updates=6", "device=cpu", "batch_size=32", "schedule=constant")
_made: dict[str, Path] = {}


@pytest.fixture
def digits_run(train: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run."""
    if "digits" not in _made:
        folder = tmp_path_factory.mktemp("digits") / "run"
        train(*SHORT, f"hydra.run.dir={folder}")
        _made["digits"] = folder
    return _made["digits"]


@pytest.fixture
def digits_model(digits_run: Path) -> torch.nn.Module:
    """Its model, loaded by hand."""
    model = vision.SmallCNN(1, 10).eval()
    model.load_state_dict(torch.load(digits_run / "checkpoint.pt", weights_only=True)["model"])
    return model
