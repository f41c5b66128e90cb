"""The number of threads: chosen, found, and kept at a resume."""

import os
import types

import pytest
import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.run.threads import keep_threads, set_threads

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL, LARGE = nn.Linear(10, 10, device="meta"), nn.Linear(1000, 1000, device="meta")


@pytest.fixture
def machine(monkeypatch):
    """Eight cores, of which so many are busy; torch has all of them."""

    def busy(load, openmp=None):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if openmp is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", str(openmp))
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
        torch.set_num_threads(openmp or 8)

    before = torch.get_num_threads()
    yield busy
    torch.set_num_threads(before)


CASES = types.MappingProxyType(
    {
        "chosen": ((3, SMALL, CPU), (7.0, None), 3),
        "chosen beside OpenMP's": ((3, LARGE, CPU), (0.0, 2), 3),
        "a small model": ((None, SMALL, CPU), (0.0, None), 1),
        "a large model": ((None, LARGE, CPU), (0.4, None), 8),
        "a busy machine": ((None, LARGE, CPU), (5.2, None), 3),
        "an overloaded machine": ((None, LARGE, CPU), (30.0, None), 1),
        "OpenMP's": ((None, SMALL, CPU), (30.0, 5), 5),
        "another device": ((None, SMALL, CUDA), (30.0, None), 8),
    }
)


@pytest.mark.parametrize("name", CASES)
def test_threads_suit_the_model_and_the_machine_unless_they_are_chosen(name, machine, caplog):
    arguments, state, number = CASES[name]
    machine(*state)
    with caplog.at_level("INFO"):
        set_threads(*arguments)
    assert torch.get_num_threads() == number
    assert caplog.messages[-1].startswith(f"{number} thread")


def test_less_than_one_thread_is_refused():
    with pytest.raises(ConfigError, match="threads=0: it must be 1 or more"):
        set_threads(0, SMALL, CPU)


@pytest.mark.parametrize(
    ("wanted", "openmp", "number"), [(None, None, 2), (4, None, 4), (None, 6, 6)], ids=["kept", "typed", "openmp"]
)
def test_a_run_goes_on_with_its_threads_where_nobody_chose_others(wanted, openmp, number, machine):
    machine(0.0, openmp)
    set_threads(wanted, LARGE, CPU)
    keep_threads(wanted, 2)
    assert torch.get_num_threads() == number


def test_a_checkpoint_knows_its_threads_and_a_change_is_said(train, monkeypatch):
    short = ("max_updates=2", "device=cpu", "schedule=constant")
    run = train(*short)
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    assert saved["config"]["threads"] == torch.get_num_threads() == 1
    train(f"resume={run}", "max_updates=4", "threads=2")
    torch.set_num_threads(1)
    assert "threads: 1 -> 2" in (run / "train.log").read_text()
