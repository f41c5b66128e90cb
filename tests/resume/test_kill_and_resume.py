"""The script that kills runs and resumes them, as a test: `pytest -m slow [--points=30]`."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["plain", "amp_accum_clip", "gan"])
def test_every_killed_run_ends_as_the_uninterrupted_one(configuration, pytestconfig):
    points = pytestconfig.getoption("--points")
    script = Path(__file__).with_name("kill_and_resume.py")
    command = [sys.executable, script, f"points={points}", f"configurations={configuration}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert f"{points} of {points} identical" in done.stdout, done.stdout + done.stderr
