"""The program: `python -m optwrap.from_mmengine`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from optwrap.from_mmengine.__main__ import __doc__ as usage
from optwrap.from_mmengine.__main__ import main

CONFIG = "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1), colour='red')\ntrain_cfg = dict(max_epochs=9)\n"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (path := tmp_path / "own.py").write_text(CONFIG)
    return path


def test_without_a_file_it_prints(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["own.py"])
    out, err = capsys.readouterr()
    assert yaml.safe_load(out)["epochs"] == 9
    assert "To be done by hand:\n- optim_wrapper.colour=red: " in err


@pytest.mark.parametrize("arguments", [["--out", "new.yaml", "own.py"], ["own.py", "--out=new.yaml"]])
def test_it_writes_a_new_file(config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    main(arguments)
    out, err = capsys.readouterr()
    assert out == ""
    assert yaml.safe_load(Path("new.yaml").read_text())["epochs"] == 9
    assert err.startswith("Wrote new.yaml.\n")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "optwrap.from_mmengine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "No config: one config is translated at a time. Usage: python -m"),
        (("own.py", "other.py"), "own.py other.py: one config is translated at a time"),
        (("nowhere.py",), "nowhere.py: there is no such file."),
        (("own.py", "--out"), "--out: which file?"),
        (("own.py", "--force"), "--force: there is no such option."),
        (("own.py", "--out", "own.yaml"), "--out own.yaml: there is such a file already."),
        (
            ("own.py", "--out", "nowhere/new.yaml"),
            "--out nowhere/new.yaml: an experiment is a file .yaml in",
        ),
        (("own.py", "--out", "new.py"), "--out new.py: an experiment is a file .yaml"),
    ],
)
def test_what_is_wrong_is_one_message(config: Path, arguments: tuple[str, ...], said: str) -> None:
    Path("own.yaml").write_text("mine")
    with pytest.raises(ValueError, match="^" + said.replace(".", r"\.").replace("?", r"\?")) as caught:
        main(list(arguments))
    assert "\n" not in str(caught.value)
    assert Path("own.yaml").read_text() == "mine"


def test_as_a_program_it_ends_with_a_message_and_1_or_with_0_and_imports_no_torch(config: Path) -> None:
    wrong = run("nowhere.py")
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (1, "", "nowhere.py: there is no such file.\n")
    code = "import sys, runpy; runpy.run_module('optwrap.from_mmengine', run_name='__main__'); "
    checked = [sys.executable, "-c", f"{code}assert 'torch' not in sys.modules", "own.py"]
    right = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert right.returncode == 0, right.stderr
    assert yaml.safe_load(right.stdout)["epochs"] == 9


def test_help_says_that_a_config_is_run() -> None:
    assert "A Python config is code: it is run" in (usage or "")
