"""The benchmarks run, and say what they leave out."""

import json
import sys

import pytest
import torch

from tests.benchmarks import __main__ as program
from tests.benchmarks import iteration, workloads
from tests.benchmarks.timing import Timer


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
