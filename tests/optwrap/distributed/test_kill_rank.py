"""The script that kills ranks, as a test: `pytest -m slow [--points=10]`."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_run_with_a_killed_rank_ends_as_the_uninterrupted_one(pytestconfig):
    points = pytestconfig.getoption("--points")
    script = Path(__file__).with_name("kill_rank.py")
    done = subprocess.run([sys.executable, script, f"points={points}"], capture_output=True, text=True)
    assert f"{points} of {points} identical" in done.stdout, done.stdout + done.stderr
