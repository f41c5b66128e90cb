"""The README's 'Start your own project', followed to the letter in a copy of the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TITLE = "# optwrap\n"
README = (ROOT / "README.md").read_text()
pytestmark = pytest.mark.skipif(not README.startswith(TITLE), reason="this is a project started from the template")
LEFT_BEHIND = {".git", "outputs", "data", ".venv", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def _left_behind(folder, names):
    """What git would not copy either."""
    built = {name for name in names if name.endswith(".egg-info") or name == "__pycache__"}
    return built | (LEFT_BEHIND & set(names) if folder == str(ROOT) else set())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Steps 1 to 4."""
    section = README.partition("## Start your own project")[2].partition("\n## ")[0]
    folder = tmp_path_factory.mktemp("empty") / "spirals"
    shutil.copytree(ROOT, folder, ignore=_left_behind)
    (folder / "outputs").mkdir()
    pyproject = folder / "pyproject.toml"
    text = re.sub(r"^name = .*", 'name = "spirals"', pyproject.read_text(), flags=re.M)
    pyproject.write_text(re.sub(r"^description = .*", 'description = "Points on arms"', text, flags=re.M))
    (folder / "README.md").write_text("# Spirals\n")
    for kind, suffix in (("python", "py"), ("yaml", "yaml")):
        (code,) = re.findall(rf"```{kind}\n(.*?)```", section, re.S)
        (folder / "experiments" / f"spirals.{suffix}").write_text(code)
    return folder


def run(project, *command):
    # The copy's own library, as `pip install -e .` in a new environment would give.
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_new_experiment_trains(project):
    done = run(project, "train.py", "experiment=spirals", "device=cpu", "hydra.run.dir=outputs/first")
    assert done.returncode == 0, done.stderr
    result = json.loads((project / "outputs/first/result.json").read_text())
    assert result["test/accuracy"] > 0.95
    assert (project / "outputs/first/param_groups.csv").read_text().count("\n") == 7


def test_help_lists_it(project):
    assert "which of two spirals a point lies on" in run(project, "train.py", "--help").stdout


def test_the_project_passes_its_tests(project):
    # All of them would take as long again; these are the ones that look at the project's own files.
    tests = ["test_architecture.py", "test_readme.py", "test_template.py", "config/test_experiments.py"]
    tests = [f"tests/{name}" for name in tests]
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_templates_title_is_nowhere_in_the_project(project):
    title = re.compile(r"experiment template for PyTorch", re.I)
    text_files = [path for path in project.rglob("*") if path.suffix in {".py", ".yaml", ".toml", ".md", ""}]
    named = [
        str(path.relative_to(project))
        for path in text_files
        if path.is_file() and path.name != "test_template.py" and "outputs" not in path.parts
        and title.search(path.read_text(errors="ignore"))
    ]  # fmt: skip
    assert named == []
