"""The benchmarks run, and say what they leave out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from optwrap import vision
from tests.optwrap import forking
from tests.optwrap.benchmarks import __main__ as program
from tests.optwrap.benchmarks import iteration, threads, workloads
from tests.optwrap.benchmarks.jobs import run as jobs
from tests.optwrap.benchmarks.jobs import work
from tests.optwrap.benchmarks.timing import Timer


@pytest.mark.slow
def test_tables_are_printed_and_saved_with_the_machine(tmp_path, monkeypatch, capsys):
    options = ["--seconds", "0.01", "--threads", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "iteration", *options])
    monkeypatch.setattr(iteration, "has", lambda package: False)
    threads = torch.get_num_threads()
    try:
        program.main()
    finally:
        torch.set_num_threads(threads)
    text = capsys.readouterr().out
    saved = json.loads((tmp_path / "iteration_cpu.json").read_text())
    assert {row["MMEngine"] for row in saved["tables"][0]["rows"]} == {"left out"}
    assert saved["machine"]["torch"] == torch.__version__.partition("+")[0]
    assert "GB/s" in saved["machine"]["in-place bandwidth"]
    assert "| SGD | no |" in text
    assert "| SGD | no |" in (tmp_path / "iteration_cpu.md").read_text()


@pytest.mark.slow
def test_the_shares_of_a_job_are_those_of_its_loop(tmp_path):
    overrides = [f"hydra.run.dir={tmp_path / 'run'}", "max_updates=6", "log_level=ERROR"]
    command = [forking.python(), "-m", "tests.optwrap.benchmarks.job", *overrides]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    shares = json.loads(done.stdout.splitlines()[-1])
    seconds = shares.pop("micro-batch")
    assert set(shares) == {"forward", "backward", "step", "loading", "checkpoints", "rest"}
    assert all(0 < share < 1 for share in shares.values())
    assert sum(shares.values()) == pytest.approx(1)
    assert 0 < seconds < 60


@pytest.mark.slow
def test_a_number_of_threads_is_what_the_run_had_beside_what_is_busy(monkeypatch):
    monkeypatch.setattr(threads, "JOBS", {"short": ("max_updates=2", "model.width=4")})
    monkeypatch.setattr(threads, "ROUNDS", 1)
    (table,) = threads.run(Timer(torch.device("cpu"), 0.01))
    assert [row[:2] for row in table.rows] == [("short", "0"), ("short", "2")]
    assert [cell.rpartition(", ")[2] for row in table.rows for cell in row[2:4]] == [
        "1"
    ] * 4  # it is a small model
    assert all(float(cell.partition(",")[0]) > 0 for row in table.rows for cell in row[2:])


def test_an_unknown_benchmark_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "stpe"])
    with pytest.raises(SystemExit):
        program.main()
    assert "there is no benchmark 'stpe'; there are build, step" in capsys.readouterr().err


def test_ratios_are_taken_round_by_round():
    times = Timer(torch.device("cpu"), 0.01).run({"one": lambda: None, "other": lambda: sum(range(1000))})
    assert times.ratio("other", "one").median > 1
    assert times.ratio("one", "one").median == 1


def test_gradients_can_be_filled_again():
    params = list(workloads.tiny().parameters())
    gradients = workloads.Gradients(params, norm=3.0)
    for param in params:
        param.grad.zero_()
    gradients.fill()
    norm = torch.stack([param.grad.norm() for param in params]).norm()
    assert norm.item() == pytest.approx(3.0)


def test_the_programs_that_jobs_are_compared_with_train_the_same_model():
    ours, theirs = vision.SmallCNN(1, 10), work.SmallCNN()
    assert [param.shape for param in ours.parameters()] == [param.shape for param in theirs.parameters()]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["train.py", "by hand"])
def test_a_job_of_the_comparison_makes_its_updates(program):
    seen = jobs.measure(program, work.WORKS["digits"], "data")
    assert 0 < seen.first < seen.end
    assert seen.rate > 0
