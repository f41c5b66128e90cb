"""Fixtures shared by all tests."""

import functools
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# A quarter of the time of collecting tests, which stay: until `pytest_collection_finish`.
gc.disable()

# Before torch is loaded, inside fixtures: the processes of pytest-xdist share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Trackers tell nobody of tests, in the processes that these start either.
os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
os.environ |= {"DO_NOT_TRACK": "true", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

# A shell that starts pytest in the background lets it ignore Ctrl-C, and so the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=int, default=20, help="cases of each kind that the fuzzers try")
    parser.addoption("--points", type=int, default=1, help="kills of each configuration that a slow test makes")
    parser.addoption("--share", type=int, default=1, help="run one in so many tests, others after each commit")


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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one in `--share` of what -m and -k have left, each test's cases in turn; others after each commit."""
    share = config.getoption("--share")
    if share <= 1:
        return
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=config.rootpath, capture_output=True, text=True).stdout
    cases: dict[str, int] = {}
    kept, dropped = [], []
    for item in items:
        name = item.nodeid.partition("[")[0]
        place = cases.setdefault(name, zlib.crc32(f"{head} {name}".encode()))
        cases[name] += 1
        (dropped if place % share else kept).append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let the process that starts others, which collects nothing, search for garbage as ever."""
    if session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput"):
        gc.enable()


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of every garbage collection: a third of the time of composing a config."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _parse_once() -> None:
    from tests.parsed_once import parse_once

    parse_once()


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture
def assert_equal() -> Callable[[Any, Any], None]:
    import torch

    def check(first: Any, second: Any) -> None:
        """Every parameter and buffer, looked up by name, is the same to the bit."""
        expected = second.state_dict()
        assert first.state_dict().keys() == expected.keys()
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, expected[name]), name

    return check


@functools.cache
def read_tree_once(root: Path) -> Any:
    from optwrap.provenance.git import read_tree

    return read_tree(root)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Run `python train.py *overrides` in this process; return its run folder. The curves are an empty file."""
    import torch
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    # Git is asked once, by ten processes for a run; the tests of provenance ask it each time.
    monkeypatch.setattr("optwrap.provenance.record.read_tree", read_tree_once)

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
