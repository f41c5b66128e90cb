"""A run of a dirty tree, made again from its folder by the commands that runs.py prints."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.optwrap.resume.compare import differences

SHORT = ("data=fake", "data.size=64", "data.eval_size=16", "model.width=4", "max_updates=3", "device=cpu")


@pytest.fixture
def project(root, tmp_path):
    """A copy of the project in a repository, whose files then differ from its commit."""
    copy = tmp_path / "project"
    parts = ("src", "conf", "experiments")
    for part in parts:
        shutil.copytree(root / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "local"))
    for name in ("train.py", "runs.py", "pyproject.toml", "README.md"):
        shutil.copy(root / name, copy)
    (copy / ".gitignore").write_text("outputs/\n__pycache__/\n*.egg-info/\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "First"]):
        who = ["-c", "user.email=someone@example.org", "-c", "user.name=Someone"]
        subprocess.run(["git", *who, *command], cwd=copy, check=True)
    task = copy / "src/optwrap/vision/task.py"
    task.write_text(f"{task.read_text()}\n# edited\n")
    models = copy / "src/optwrap/vision/models.py"
    models.write_text(models.read_text().replace("stride=2)", "stride=1)", 1))
    (copy / "experiments/new.py").write_text(
        "from optwrap.vision import SmallCNN\n\n\ndef net(**options):\n    return SmallCNN(**options)\n"
    )
    return copy


def called(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_a_run_of_a_dirty_tree_is_made_again_from_its_folder_to_the_bit(project, tmp_path):
    called(project, "train.py", *SHORT, "model._target_=experiments.new.net", "hydra.run.dir=outputs/first")
    first = tmp_path / "kept"
    shutil.move(project / "outputs/first", first)  # what it needs is in its folder
    subprocess.run(["git", "checkout", "-q", "."], cwd=project, check=True)
    (project / "experiments/new.py").unlink()
    lines = called(project, "runs.py", "reproduce", str(first), f"to={tmp_path / 'again'}").splitlines()
    git = [line for line in lines if line.startswith(("git", "cd"))]
    subprocess.run(["bash", "-ec", "\n".join(git)], cwd=project, check=True, capture_output=True)
    (training,) = (line for line in lines if "python train.py" in line)
    command = training.replace("python ", f"{sys.executable} ", 1) + " hydra.run.dir=outputs/second"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "again/src"), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, shell=True, cwd=tmp_path / "again", env=environment, check=True, capture_output=True)
    assert differences(first, tmp_path / "again/outputs/second") == []
