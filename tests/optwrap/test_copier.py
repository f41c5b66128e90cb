"""A project that copier makes is the one made by hand, and an update leaves what is its own alone."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest

import optwrap
from tests.optwrap.test_template import IGNORED, ROOT, TITLE, add_experiment, by_hand, copy, run

README = (ROOT / "README.md").read_text()
pytestmark = pytest.mark.skipif(not README.startswith(TITLE), reason="this is a project started from the template")
ANSWERS = ["--defaults", "--data", "name=spirals", "--data", "description=Points on arms"]
WHO = {f"GIT_{role}_{what}": "nobody@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def call(folder, *command):
    done = subprocess.run(command, cwd=folder, env=os.environ | WHO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def copier(folder, *arguments):
    return call(folder, sys.executable, "-m", "copier", *arguments)


def commit(folder, message):
    call(folder, "git", "init", "-q")
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "-q", "--no-verify", "-m", message)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def rewrite(file, pattern, replacement):
    text, count = re.subn(pattern, replacement, file.read_text(), flags=re.M)
    assert count == 1, f"{file}: {pattern}"
    file.write_text(text)


@pytest.fixture
def template(tmp_path):
    """The repository as it is now, with no history and no tags: what is on disk need not be a clone."""
    return copy(tmp_path / "template", IGNORED | {".git"})


@pytest.mark.slow
def test_copier_makes_the_project_that_the_steps_by_hand_make(template, tmp_path):
    commit(template, "All of it")
    copier(tmp_path, "copy", *ANSWERS, str(template), "made")
    made, hand = tmp_path / "made", by_hand(tmp_path / "hand")
    assert files(made) == files(hand) | {".copier-answers.yml"}
    differing = {name for name in files(hand) if (made / name).read_bytes() != (hand / name).read_bytes()}
    assert differing == {"README.md", "pyproject.toml"}
    assert os.access(made / ".ci" / "run", os.X_OK) == os.access(ROOT / ".ci" / "run", os.X_OK)
    theirs, ours = (tomllib.loads((folder / "pyproject.toml").read_text()) for folder in (made, hand))
    assert theirs["project"].pop("version") == "0.1.0"
    del ours["project"]["version"]
    assert theirs == ours
    assert (made / "README.md").read_text().startswith("# spirals\n\nPoints on arms\n")
    # What .ci/run looks for.
    assert re.search(r"^pip install .* && pytest", (made / "README.md").read_text(), re.M)


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", ['description=of "arms"', "description=arms\\", "description=", "name=my spirals"]
)
def test_an_answer_that_would_break_pyproject_is_refused(template, tmp_path, answer):
    commit(template, "All of it")
    with pytest.raises(AssertionError, match="Validation error"):
        copier(tmp_path, "copy", *ANSWERS, "--data", answer, str(template), "made")


def as_it_was(template):
    """Take the template back to what an earlier version may have been."""
    library = template / "src" / "optwrap"
    rewrite(library / "__init__.py", r"^__version__ = .*", '__version__ = "0.0.1"')
    (library / "plan" / "plan.py").unlink()
    (library / "gone_since.py").write_text("# nothing\n")
    rewrite(template / "pyproject.toml", r'^  "matplotlib.*\n', "")
    rewrite(template / "conf" / "config.yaml", r"^  output_subdir: null.*\n", "")
    rewrite(template / "conf" / "model" / "small_cnn.yaml", r"^width: .*", "width: 3")
    rewrite(template / "README.md.jinja", r"^Set up and test:", "Set up and test it:")
    for file in ("experiments/digits.yaml", "tests/experiments/test_quick.py"):
        (template / file).write_text((template / file).read_text() + "# as it was\n")


def make_it_own(project):
    """Work on a project, as its owner would: write an experiment, choose, set, delete."""
    add_experiment(project)
    (project / "experiments/quick/spirals.yaml").write_text(
        "# spirals in seconds\ndefaults:\n  - /experiment/spirals\n\nmax_updates: 4\ndata: {size: 100}\n"
    )
    (project / "conf/model/mine.yaml").write_text("# ours\n_target_: experiments.spirals.Net\nwidth: 8\n")
    (project / "README.md").write_text("# Spirals\n\nOurs.\n")
    rewrite(project / "conf" / "config.yaml", r"- schedule: warmup_cosine", "- schedule: constant")
    rewrite(project / "pyproject.toml", r"^version = .*", 'version = "0.7.0"')
    for pattern in ("experiments/gan*", "experiments/quick/gan.yaml", "tests/experiments/test_gan*"):
        for file in project.glob(pattern):
            file.unlink()


@pytest.mark.slow
def test_an_update_brings_the_library_and_leaves_what_is_the_projects_own(template, tmp_path):
    now = {name: (template / name).read_bytes() for name in files(template)}
    as_it_was(template)
    commit(template, "Earlier")
    copier(tmp_path, "copy", *ANSWERS, str(template), "spirals")
    project = tmp_path / "spirals"
    make_it_own(project)
    commit(project, "Ours")
    before = {name: (project / name).read_bytes() for name in files(project) if not name.startswith(".git/")}

    for name in files(template) - now.keys():
        if not name.startswith(".git/"):
            (template / name).unlink()
    for name, content in now.items():
        (template / name).write_bytes(content)
    commit(template, "Now")
    copier(project, "update", "--defaults")

    after = {name: (project / name).read_bytes() for name in files(project) if not name.startswith(".git/")}
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    library = {f"src/optwrap/{name}" for name in ("__init__.py", "plan/plan.py", "gone_since.py")}
    merged = {"conf/config.yaml", "pyproject.toml"}
    assert changed == {*library, *merged, "conf/model/small_cnn.yaml", ".copier-answers.yml"}
    for name in library:
        assert after.get(name) == now.get(name)
    config, pyproject = ((project / name).read_text() for name in sorted(merged))
    assert "- schedule: constant" in config
    assert "output_subdir: null" in config
    assert 'version = "0.7.0"' in pyproject
    assert '"matplotlib' in pyproject
    assert 'name = "spirals"' in pyproject
    assert "<<<<<<<" not in config + pyproject

    own = ["max_updates=20", "device=cpu", "hydra.run.dir=outputs/first"]
    done = run(project, "train.py", "experiment=spirals", *own)
    assert done.returncode == 0, done.stderr
    result = json.loads((project / "outputs/first/result.json").read_text())
    assert result["versions"]["optwrap"] == optwrap.__version__
    suite = ["-n", "0", "tests", "--ignore=tests/optwrap", "-k", "spirals or digits"]
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suite)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"[2-9] passed", done.stdout)
