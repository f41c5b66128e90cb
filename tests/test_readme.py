"""The README's Python runs and prints what its comments say; its commands compose."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from optwrap.config import store
from optwrap.hydra_versions import VERSION_BASE

# A project started from the template has a README of its own.
pytestmark = pytest.mark.skipif(
    "# optwrap\n" not in (Path(__file__).parents[1] / "README.md").read_text(), reason="own README"
)
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [line for line in re.findall(r"^python train\.py .*", README, re.M) if "--help" not in line]
TABLE_COMMANDS = re.findall(r"^\| `(python train\.py [^`]*)`", README, re.M)


def test_the_python_example_prints_what_its_comment_says(capsys):
    code = next(each for each in re.findall(r"```python\n(.*?)```", README, re.S) if "print(" in each)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == re.search(r"print\(.*\)  # (.*)", code)[1]


@pytest.mark.parametrize("command", [*COMMANDS, *TABLE_COMMANDS])
def test_every_command_composes(command):
    store.register()
    words = [word for word in shlex.split(command, comments=True)[2:] if word != "-m"]
    parsed = OverridesParser.create().parse_overrides(words)
    swept = [list(each.sweep_string_iterator()) if each.is_sweep_override() else None for each in parsed]
    with initialize_config_dir(str(ROOT / "conf"), **VERSION_BASE):
        for index in range(max(len(values or [0]) for values in swept)):
            keys = [each.get_key_element() for each in parsed]
            point = zip(words, keys, swept, strict=True)
            compose("config", [f"{k}={v[index % len(v)]}" if v else word for word, k, v in point])


def test_every_mixin_that_the_table_names_exists_and_every_file_is_named():
    section = README.partition("## Combine strategies")[2].partition("\n- **")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {
        "RMSprop"
    }  # and any class of torch.optim
    assert named == {path.stem for path in (ROOT / "conf" / "optim_wrapper").glob("*.yaml")}


def test_every_test_that_a_promise_names_exists():
    section = README.partition("## What it promises")[2].partition("\n## ")[0]
    named = re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", section)
    assert len(named) > 10
    path = ""
    for file, test in named:
        path = file or path
        assert (ROOT / path).is_file(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(), test
