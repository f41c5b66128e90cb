"""The number of threads: chosen, found, and kept at a resume."""

import os
import platform
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.run import threads
from optwrap.run.threads import CpuTime, busy_cores, keep_threads, set_threads

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
        monkeypatch.setattr(threads, "busy_cores", lambda since: load)
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
        "another that ends": ((None, LARGE, CPU), (0.6, None), 7),
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
        set_threads(*arguments, CpuTime.now())
    assert torch.get_num_threads() == number
    assert caplog.messages[-1].startswith(f"{number} thread")


@pytest.mark.parametrize("ago", [0.0, 0.04, 1.0])
def test_the_time_of_other_processes_counts_and_that_of_this_one_does_not(ago, tmp_path, monkeypatch):
    """Of two cores: others use 1.5 of them and this process the half, whether it waits for that or comes later."""
    statistics, now, slept = tmp_path / "stat", [0.0], []

    def pass_time(seconds):
        now[0] += seconds
        user = 1000 + round(200 * now[0])
        statistics.write_text(f"cpu  {user} 10 500 9850 5 5 0 0 0 0\ncpu0 ...\n")

    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(threads.time, "process_time", lambda: 7 + now[0] / 2)
    monkeypatch.setattr(threads.time, "sleep", lambda seconds: (slept.append(seconds), pass_time(seconds)))
    pass_time(0)
    since = CpuTime.now(statistics)
    pass_time(ago)
    assert busy_cores(since, statistics) == pytest.approx(1.5)
    assert sum(slept) == pytest.approx(max(0, 0.1 - ago))


def test_each_kind_of_work_is_work_and_waiting_is_none(tmp_path, monkeypatch):
    statistics = tmp_path / "stat"
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    statistics.write_text("cpu  1000 200 300 9850 5 40 5 1 70 70\ncpu0 ...\n")
    assert CpuTime.now(statistics).cores == pytest.approx((1000 + 200 + 300 + 40 + 5 + 1) / 100)


def test_a_system_that_does_not_say_has_no_busy_cores(tmp_path):
    assert busy_cores(CpuTime.now(tmp_path / "none")) == 0


def test_less_than_one_thread_is_refused():
    with pytest.raises(ConfigError, match="threads=0: it must be 1 or more"):
        set_threads(0, SMALL, CPU, CpuTime.now())


@pytest.mark.parametrize(
    ("wanted", "openmp", "number"), [(None, None, 2), (4, None, 4), (None, 6, 6)], ids=["kept", "typed", "openmp"]
)
def test_a_run_goes_on_with_its_threads_where_nobody_chose_others(wanted, openmp, number, machine):
    machine(0.0, openmp)
    set_threads(wanted, LARGE, CPU, CpuTime.now())
    keep_threads(wanted, 2)
    assert torch.get_num_threads() == number


@pytest.mark.slow
def test_a_checkpoint_knows_its_threads_and_a_change_is_said(train, monkeypatch):
    short = ("max_updates=2", "device=cpu", "schedule=constant")
    run = train(*short, "threads=1")
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    assert saved["config"]["threads"] == torch.get_num_threads() == 1
    train(f"resume={run}", "max_updates=4", "threads=2")
    torch.set_num_threads(1)
    assert "threads: 1 -> 2" in (run / "train.log").read_text()


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(("variables", "keeps"), [({}, True), ({"MALLOC_ARENA_MAX": "2"}, False)])
def test_freed_memory_is_taken_again_without_asking_the_system(variables, keeps):
    """Counts pages that are new to a process while it takes and frees 20 times 60 MiB; all are 307,200."""
    code = (
        "import resource\n"
        "from optwrap.run.threads import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "def round(): [bytearray(b'1') * (10 * 2**20) for _ in range(6)]\n"
        "round()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): round()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    others = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=others | variables, capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) < 30_000) is keeps
