"""`docs/start_your_own_project.md`, followed to the letter in a copy of the repository."""

import csv
import fnmatch
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import optwrap
from tests.optwrap import forking

ROOT = Path(__file__).parents[2]
TITLE = "# optwrap\n"
README = (ROOT / "README.md").read_text()
pytestmark = pytest.mark.skipif(not README.startswith(TITLE), reason="this is a project started from the template")
# What is no part of a copy, by git or by step 1.
IGNORED = {".venv", "outputs", "data", "uv.lock"}
TEMPLATES_OWN = {".git", ".github", "docs", "CHANGELOG.md", "CONTRIBUTING.md", "copier.yml", "*.jinja"}


def copy(folder, left_behind):
    """Copy the repository's top level less what is `left_behind`, and less what git would not copy either."""

    def ignore(parent, names):
        patterns = ["*.egg-info", "*_cache", "__pycache__", ".hypothesis"]
        patterns += left_behind if parent == str(ROOT) else ["local"] if parent == str(ROOT / "conf") else []
        return {name for pattern in patterns for name in fnmatch.filter(names, pattern)}

    shutil.copytree(ROOT, folder, ignore=ignore)
    (folder / "outputs").mkdir()
    shutil.copy(ROOT / "outputs" / ".gitkeep", folder / "outputs")
    return folder


def by_hand(folder):
    """Do steps 1 and 2."""
    copy(folder, IGNORED | TEMPLATES_OWN)
    pyproject = folder / "pyproject.toml"
    text = re.sub(r"^name = .*", 'name = "spirals"', pyproject.read_text(), flags=re.M)
    pyproject.write_text(re.sub(r"^description = .*", 'description = "Points on arms"', text, flags=re.M))
    (folder / "README.md").write_text("# Spirals\n")
    return folder


def add_experiment(folder):
    """Do steps 3 and 4."""
    for kind, suffix in (("python", "py"), ("yaml", "yaml")):
        (folder / "experiments" / f"spirals.{suffix}").write_text(code_of("start_your_own_project.md", kind))


def code_of(page, language):
    """Return the one block of a language on a page."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)
    return code


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Steps 1 to 4."""
    folder = by_hand(tmp_path_factory.mktemp("empty") / "spirals")
    add_experiment(folder)
    return folder


def run(project, *command):
    # The copy's own library, as `pip install -e .` in a new environment would give.
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [forking.python(), *command], cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("page", ["README.md", "docs/start_your_own_project.md"])
def test_step_1_drops_what_is_no_part_of_a_copy(page):
    (dropped,) = re.findall(r"rm -rf ([^&]*)", (ROOT / page).read_text())
    names = {name.removesuffix("/*") for name in dropped.split()}
    assert names == TEMPLATES_OWN | {".venv", "outputs"}  # a clone has no more of what git ignores


@pytest.mark.slow
def test_the_new_experiment_trains(project):
    done = run(project, "train.py", "experiment=spirals", "device=cpu", "hydra.run.dir=outputs/first")
    assert done.returncode == 0, done.stderr
    result = json.loads((project / "outputs/first/result.json").read_text())
    assert result["test/accuracy"] > 0.95
    assert result["versions"]["optwrap"] == optwrap.__version__
    assert (project / "outputs/first/param_groups.csv").read_text().count("\n") == 7


@pytest.mark.slow
def test_it_can_have_a_constructor_of_its_own(project, tmp_path):
    (project / "experiments" / "scaled.py").write_text(code_of("parameters.md", "python"))
    folder = tmp_path / "run"
    page = (ROOT / "docs" / "parameters.md").read_text()
    (constructor,) = re.findall(r"'(optim_wrapper\.constructor=[^']*)'", page)
    own = ["max_updates=2", constructor, f"hydra.run.dir={folder}", "device=cpu"]
    done = run(project, "train.py", "experiment=spirals", *own)
    assert done.returncode == 0, done.stderr
    with (folder / "param_groups.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")]
    assert {float(row["lr"]) for row in rows} == {0.03}


@pytest.mark.slow
def test_help_lists_it(project):
    assert "which of two spirals a point lies on" in run(project, "train.py", "--help").stdout


@pytest.mark.slow
def test_the_project_passes_its_tests(project):
    # Of the library's, those that look at the project's own files; the whole takes as long as the template's.
    tests = ["optwrap/test_architecture.py", "optwrap/test_template.py", "test_docs.py", "test_run.py"]
    tests = [f"tests/{name}" for name in tests]
    done = run(project, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_without_the_templates_experiments_it_passes_its_tests_too(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "without", ignore=shutil.ignore_patterns("outputs"))
    shutil.rmtree(copy / "tests" / "experiments")
    shutil.rmtree(copy / "experiments" / "quick")
    shutil.rmtree(copy / "experiments" / "sweep")
    for file in (copy / "experiments").iterdir():
        if file.stem not in ("__init__", "spirals") and file.is_file():
            file.unlink()
    using = [
        file for file in (copy / "tests").rglob("*.py") if re.search("(from|import) experiments", file.read_text())
    ]
    assert using == []
    done = run(copy, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/test_configs.py")
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_without_the_librarys_tests_it_still_has_a_suite(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "without", ignore=shutil.ignore_patterns("outputs"))
    shutil.rmtree(copy / "tests" / "optwrap")
    done = run(copy, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider")
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
