import json
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.run.debugging import debugger
from tests.optwrap.forking import python

OFF = {"detect_anomaly": False, "find_nonfinite": False, "profile": None}


class Off:
    def __init__(self, **switches):
        self.__dict__.update(OFF | switches)


def test_the_module_whose_output_goes_bad_is_named(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[2].weight.fill_(float("inf"))
    said = pytest.raises(ConfigError, match=r"output of 2 \(Linear\).*in epoch 1, update 7; from finite inputs")
    with debugger(Off(find_nonfinite=True), model, tmp_path, lambda: "in epoch 1, update 7"), said:
        model(torch.ones(1, 2))
    model(torch.ones(1, 2))  # and no longer


def test_the_parameter_whose_gradient_goes_bad_is_named(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with debugger(Off(find_nonfinite=True), model, tmp_path, lambda: "here"):
        loss = model(torch.ones(1, 2)).sum()
        with pytest.raises(ConfigError, match=r"the gradient of 1\.(weight|bias) is NaN or inf here"):
            (loss * float("inf")).backward()


def test_anomaly_mode_is_on_inside_alone(tmp_path):
    with debugger(Off(detect_anomaly=True), nn.Linear(1, 1), tmp_path, str):
        assert torch.is_anomaly_enabled()
    assert not torch.is_anomaly_enabled()


def test_a_profile_is_a_chrome_trace_of_the_steps_asked_for(tmp_path):
    model = nn.Linear(2, 2)
    with debugger(Off(profile=3), model, tmp_path, str) as step:
        for _ in range(8):
            model(torch.ones(1, 2))
            step()
    names = [event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]]
    assert names.count("aten::linear") == 3


@pytest.mark.slow
def test_a_profile_prints_no_more_than_where_it_is_and_the_last_lines_name_it(tmp_path):
    folder = tmp_path / "run"
    command = [python(), "train.py", "epochs=1", "debug.profile=2", "device=cpu", f"hydra.run.dir={folder}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert ended.stderr == ""
    assert f"trace            {folder / 'trace.json'}" in ended.stdout.split("Finished")[1]
