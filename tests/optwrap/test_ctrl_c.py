"""Ctrl-C while a program still loads its libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(code):
    command = [sys.executable, "-c", f"import optwrap.ctrl_c; {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_one_line_and_ends_as_shells_expect():
    ended = python("raise KeyboardInterrupt")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "\ninterrupted\n", -2)  # 130 in a shell


def test_other_errors_keep_their_traceback():
    assert "Traceback" in python("1 / 0").stderr


@pytest.mark.parametrize("program", ["train.py", "report.py", "evaluate.py"])
def test_a_program_imports_it_first(program):
    first = ast.parse((ROOT / program).read_text()).body[1]  # after the docstring
    assert isinstance(first, ast.Import)
    assert first.names[0].name == "optwrap.ctrl_c"
