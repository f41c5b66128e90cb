"""The scripts that kill runs and sweeps and resume them, as tests: `pytest -m slow [--points=30]`."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["plain", "amp_accum_clip", "strategies", "gan"])
def test_every_killed_run_ends_as_the_uninterrupted_one(configuration, pytestconfig):
    points = pytestconfig.getoption("--points")
    script = Path(__file__).with_name("kill_and_resume.py")
    command = [sys.executable, script, f"points={points}", f"configurations={configuration}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert f"{points} of {points} identical" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_a_killed_sweep_ends_as_the_uninterrupted_one(pytestconfig):
    points = pytestconfig.getoption("--points")
    script = Path(__file__).with_name("kill_sweep.py")
    done = subprocess.run([sys.executable, script, f"points={points}"], capture_output=True, text=True)
    assert f"{points} of {points} identical" in done.stdout, done.stdout + done.stderr
