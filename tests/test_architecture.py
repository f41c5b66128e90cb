"""Dependencies point one way: programs and experiments import the library, never the reverse."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "src" / "optwrap"


def imported_by(folder):
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((file, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: imports are absolute"
                yield file, node.module


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        (".", {"train", "evaluate", "experiments", "conf"}),
        ("optim", {"optwrap.run", "optwrap.vision", "optwrap.config"}),
        ("config", {"optwrap.run", "optwrap.vision", "optwrap.optim", "torch"}),
        ("vision", {"optwrap.run", "optwrap.config"}),
        ("sweep", {"optwrap.run", "optwrap.config", "optwrap.optim", "optwrap.vision", "torch"}),
    ],
)
def test_a_package_imports_nothing_above_it(folder, forbidden):
    for file, module in imported_by(LIBRARY / folder):
        parts = module.split(".")
        assert not forbidden & {parts[0], ".".join(parts[:2])}, f"{file} imports {module}"


def test_the_command_line_answers_without_loading_torch():
    code = "import sys, train; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=LIBRARY.parents[1])
