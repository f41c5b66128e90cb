"""One run of this project from end to end: trained, gone on with, evaluated and compared."""

import csv
import json
import subprocess
import sys

import pytest
import torch

import evaluate
import report
from tests.pages import ROOT

SHORT = ("max_updates=4", "eval_every=2", "device=cpu")


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_run_is_trained_gone_on_with_evaluated_and_compared(train, capsys):
    whole, run = train(*SHORT, "max_updates=6", "schedule=constant"), train(*SHORT, "schedule=constant")
    train(f"resume={run}", "max_updates=6")
    for name, tensor in torch.load(run / "checkpoint.pt", weights_only=True)["model"].items():
        assert torch.equal(tensor, torch.load(whole / "checkpoint.pt", weights_only=True)["model"][name]), name

    metrics = evaluate.main([f"run={run}", "batch_size=50"])
    for name, value in metrics.items():
        assert value == pytest.approx(result(run)[f"test/{name}"], rel=1e-4)

    capsys.readouterr()
    report.main([str(run.parent)])
    assert "val/accuracy" in capsys.readouterr().out
    with (run.parent / "results.csv").open() as file:
        assert {row["job"] for row in csv.DictReader(file)} == {whole.name, run.name}


@pytest.mark.parametrize("program", ["train.py", "evaluate.py", "predict.py", "export.py", "report.py"])
def test_a_program_without_what_it_needs_says_how_to_install_it(program):
    done = subprocess.run([sys.executable, "-S", "-E", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("Install what the project needs first: pip install -e .\n")
    assert "Traceback" not in done.stderr
