"""Programs from their first moment on: Ctrl-C while libraries load, arguments, pipes and files."""

import errno
import os
import subprocess
import sys

import pytest

from optwrap.errors import ConfigError
from optwrap.program import script, split_arguments


def python(code):
    command = [sys.executable, "-c", f"from optwrap import program; {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


INTERRUPTED = """
import sys
class Finder:  # Ctrl-C while {module} is loaded
    def find_spec(self, name, *_):
        if name == {module!r}: raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
import {program}
sys.argv[:] = [{program!r}, {argument!r}]
from optwrap import program
{start}
"""


@pytest.mark.parametrize("module", ["omegaconf", "hydra", "optwrap.config.store", "torch"])
def test_ctrl_c_while_a_program_loads_is_one_line(module, root, tmp_path):
    code = INTERRUPTED.format(
        module=module, program="train", argument=f"hydra.run.dir={tmp_path}", start="train.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert (ended.stderr.strip().splitlines()[0], ended.returncode) == ("interrupted", 130)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("program", ["evaluate", "report"])
def test_ctrl_c_while_another_program_loads_is_one_line(program, root, tmp_path):
    start = f"program.script({program}.main, None)"
    argument = f"run={tmp_path}" if program == "evaluate" else str(tmp_path)
    code = INTERRUPTED.format(module="omegaconf", program=program, argument=argument, start=start)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "\ninterrupted\n", 130)


def test_other_errors_keep_their_traceback():
    assert "Traceback" in python("program.script(lambda arguments: 1 / 0, None)").stderr


@pytest.mark.parametrize(
    ("arguments", "said"), [([], "run= is missing"), (["outputs/x"], "key=value"), (["run="], "run=")]
)
def test_arguments_that_do_not_fit_show_the_usage(arguments, said):
    with pytest.raises(ConfigError, match=f"{said}.*Usage: run=... \\[split=test\\]"):
        split_arguments(arguments, {"run": None, "split": "test"})


def test_a_file_that_cannot_be_written_is_one_line(monkeypatch):
    def main(arguments):
        raise PermissionError(errno.EACCES, "Permission denied", "report/index.html")

    monkeypatch.setattr(sys, "argv", ["report.py"])
    with pytest.raises(SystemExit) as end:
        script(main, None)
    assert end.value.code == "report/index.html: Permission denied."


def test_a_pipe_that_nobody_reads_ends_a_program_in_silence():
    code = "from optwrap import program; program.script(lambda arguments: print('row'), None)"
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, b"")
