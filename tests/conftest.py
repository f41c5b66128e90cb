"""Fixtures shared by all tests."""

import copy
import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before torch is loaded: the processes of pytest-xdist share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from torch import nn

# A shell that starts pytest in the background lets it ignore Ctrl-C, and so the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=int, default=20, help="cases of each kind that the fuzzers try")
    parser.addoption("--points", type=int, default=1, help="kills of each configuration that a slow test makes")


@pytest.fixture
def root() -> Path:
    """The repository."""
    return Path(__file__).parents[1]


# Files whose tests share what is costly to make: ranks, or a copy of the project. One process runs each of them.
TOGETHER = re.compile(r"/(?:distributed|parallel)/test_|/test_template|/test_copier")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the processes of pytest-xdist one test at a time, or one such file; those first."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0] if TOGETHER.search(nodeid) else nodeid

    return Scheduling(config, log)


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of every garbage collection: a third of the time of composing a config."""
    gc.collect()
    gc.freeze()


class ToyModel(nn.Module):
    """The model of the reference's paramwise examples."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"layer0": nn.Linear(1, 1), "layer1": nn.Linear(1, 1)})
        self.head = nn.Sequential()
        self.head.add_module("linear", nn.Linear(1, 1))
        self.head.add_module("bn", nn.BatchNorm1d(1))


@pytest.fixture
def toy_model() -> nn.Module:
    return ToyModel()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 3))


@pytest.fixture
def twins() -> tuple[nn.Module, nn.Module]:
    """Two equal models: one for the wrapper, one for plain PyTorch."""
    model = _mlp()
    return model, copy.deepcopy(model)


@pytest.fixture
def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Eight batches for the twins."""
    return [(torch.randn(6, 4), torch.randint(3, (6,))) for _ in range(8)]


@pytest.fixture
def loss_of() -> Callable[[nn.Module, tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return F.cross_entropy(model(batch[0]).float(), batch[1])

    return loss


@pytest.fixture
def assert_equal() -> Callable[[nn.Module, nn.Module], None]:
    def check(first: nn.Module, second: nn.Module) -> None:
        """Every parameter and buffer, looked up by name, is the same to the bit."""
        expected = second.state_dict()
        assert first.state_dict().keys() == expected.keys()
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, expected[name]), name

    return check


@pytest.fixture
def assert_close() -> Callable[[nn.Module, nn.Module], None]:
    def check(first: nn.Module, second: nn.Module) -> None:
        """Every parameter and buffer, looked up by name, is the same to float32's tolerance."""
        torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=1e-5, atol=1e-6)

    return check


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Run `python train.py *overrides` in this process; return its run folder. The curves are an empty file."""
    # Drawing takes a third of a short run; the recorder's tests draw.
    monkeypatch.setattr("optwrap.record.folder_writer.plot_curves", lambda metrics, path: path.touch())

    # Hydra composes the whole config to learn of `hydra.mode`, and then again: a third of such a run too.
    monkeypatch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *args, **kwargs: RunMode.RUN)

    def run(*overrides: str) -> Path:
        import train as program

        folder = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        placed = any(each.startswith(("hydra.run.dir=", "resume=/")) for each in overrides)
        own = [] if placed else [f"hydra.run.dir={folder}"]
        monkeypatch.setattr(sys, "argv", ["train.py", *overrides, *own])
        GlobalHydra.instance().clear()
        program.main()
        return folder

    yield run
    torch.use_deterministic_algorithms(False)
    for handler in logging.getLogger().handlers[:]:  # Hydra's: they hold files of folders that are gone
        if isinstance(handler, logging.FileHandler):
            handler.close()
            logging.getLogger().removeHandler(handler)
