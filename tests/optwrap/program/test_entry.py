"""Programs from their first moment on: Ctrl-C while libraries load, arguments, pipes and files."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optwrap.errors import ConfigError
from optwrap.program import script, split_arguments
from tests.optwrap.forking import python as python_of_tests


def python(code):
    command = [sys.executable, "-c", f"from optwrap import program; {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


INTERRUPTED = """
import sys
import time
from pathlib import Path
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


@pytest.mark.parametrize("program", ["evaluate", "predict", "export", "report"])
def test_ctrl_c_while_another_program_loads_is_one_line(program, root, tmp_path):
    start = f"program.script({program}.main, None)"
    argument = f"run={tmp_path}" if program != "report" else str(tmp_path)
    code = INTERRUPTED.format(module="omegaconf", program=program, argument=argument, start=start)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "\ninterrupted\n", 130)


def test_what_a_terminal_has_no_character_for_is_spelt_out():
    command = [
        sys.executable,
        "-c",
        "from optwrap import program; program.script(lambda _: print('1 ± 2 é'), None)",
    ]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1 \\xb1 2 \\xe9\n", "")


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


@pytest.mark.parametrize(("flags", "said"), [((), "Loading torch ..."), (("--cfg", "job"), "epochs=x: ")])
def test_a_terminal_is_told_at_once_that_a_run_begins(flags, said, root):
    terminal, stderr = os.openpty()
    command = [python_of_tests(), "train.py", "epochs=x", *flags]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=stderr, check=False, cwd=root)
    os.close(stderr)
    assert os.read(terminal, 1000).decode().startswith(said)
    os.close(terminal)


def test_what_is_in_a_cycle_is_finalised_at_the_end():
    code = "class Held: __del__ = lambda self: print('finalised')\nheld = Held(); held.self = held; del held"
    assert python(f"program.script(lambda arguments: exec({code!r}), None)").stdout == "finalised\n"


def test_what_an_interrupt_has_left_half_loaded_says_nothing_at_the_end():
    code = """
import os, signal
class Half:
    def __del__(self): self.handle.close()
def main(arguments):
    half = Half()
    half.self = half
    os.kill(os.getpid(), signal.SIGTERM)
program.script(main, None)"""
    ended = python(f"exec({code!r}, globals())")
    assert (ended.stderr, ended.returncode) == ("\ninterrupted\n", 143)


def test_an_interrupted_start_prints_no_statistics_of_torch(root, tmp_path):
    code = f"""
import os, signal, sys
import train
from optwrap import run
def interrupted(cfg, process):
    import torch._subclasses.fake_tensor
    os.kill(os.getpid(), signal.SIGTERM)
run.build_model = interrupted
sys.argv[:] = ["train.py", "hydra.run.dir={tmp_path / "run"}"]
train.main()
"""
    ended = subprocess.run([python_of_tests(), "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert (ended.stdout, ended.stderr) == ("", "\ninterrupted; nothing was written\n")


SWALLOWED = """
import os, signal, sys
class Finder:  # SIGTERM while {module} is loaded, by a library that catches everything
    def find_spec(self, name, *_):
        if name == {module!r}:
            try: os.kill(os.getpid(), signal.SIGTERM)
            except BaseException: raise {error} from None
sys.meta_path.insert(0, Finder())
import train
sys.argv[:] = ["train.py", "hydra.run.dir={folder}"]
train.main()
"""


@pytest.mark.parametrize(
    ("module", "error"), [("optwrap.config.store", "RecursionError"), ("optwrap.run.setup", "ImportError")]
)
def test_a_signal_that_an_import_makes_an_error_of_is_one_line(module, error, root, tmp_path):
    code = SWALLOWED.format(module=module, error=error, folder=tmp_path)
    ended = subprocess.run([python_of_tests(), "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert ended.stderr.strip().splitlines()[0].startswith("interrupted")
    assert (ended.returncode, "Traceback" in ended.stderr) == (143, False)


def takes_sigterm(process):
    """Whether the process has a handler for SIGTERM by now."""
    (caught,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("after", [0.2 * step for step in range(20)])
def test_a_signal_at_any_time_of_the_start_is_143_and_one_message(after, root, tmp_path):
    command = [sys.executable, "train.py", "epochs=1000", f"hydra.run.dir={tmp_path}"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=root
    ) as process:
        while not takes_sigterm(process):
            time.sleep(0.005)
        time.sleep(after)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    first, *further = err.strip().splitlines()
    assert (process.returncode, first.startswith("interrupted")) == (143, True), err
    assert all(line.startswith("Go on with") for line in further), err
