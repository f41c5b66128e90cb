import os
import subprocess

import pytest

from optwrap.provenance import git


def run(folder, *command, **options):
    return subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True, **options).stdout


@pytest.fixture
def project(tmp_path):
    """A repository of one commit, and a clone of it."""
    folder = tmp_path / "project"
    folder.mkdir()
    run(folder, "init", "-q")
    run(folder, "config", "user.email", "someone@example.org")
    run(folder, "config", "user.name", "Someone")
    for name, text in {"kept.py": "a = 1\n", "gone.py": "b = 1\n", ".gitignore": "outputs/\n"}.items():
        (folder / name).write_text(text)
    run(folder, "add", "-A")
    run(folder, "commit", "-qm", "First")
    return folder


def test_a_clean_tree_has_a_commit_and_no_diff(project):
    tree = git.read_tree(project)
    assert tree.commit == run(project, "rev-parse", "HEAD").decode().strip()
    assert (tree.diff, tree.is_dirty, tree.prefix) == (b"", False, "")


def test_the_diff_makes_the_tree_again_and_leaves_the_index_alone(project, tmp_path):
    (project / "kept.py").write_text("a = 2\n")
    (project / "gone.py").unlink()
    (project / "a new file.py").write_text("c = 'ü'\n", encoding="utf-8")
    (project / "picture.png").write_bytes(bytes(range(256)))
    (project / "staged.py").write_text("d = 1\n")
    run(project, "add", "staged.py")
    (project / "outputs").mkdir()
    (project / "outputs" / "run.txt").write_text("ignored")
    before = run(project, "status", "--porcelain")
    tree = git.read_tree(project)
    assert tree.is_dirty
    assert run(project, "status", "--porcelain") == before
    run(tmp_path, "clone", "-q", str(project), "again")
    run(tmp_path / "again", "apply", "-", input=tree.diff)
    names = {path.name for path in (tmp_path / "again").iterdir()} - {".git"}
    assert names == {path.name for path in project.iterdir()} - {".git", "outputs"}
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (project / name).read_bytes(), name


def test_large_files_that_no_commit_has_are_left_out_and_named(project, monkeypatch):
    monkeypatch.setattr(git, "MOST_OF_A_FILE", 100)
    (project / "data.bin").write_bytes(bytes(101))
    tree = git.read_tree(project)
    assert (tree.diff, tree.left_out, tree.is_dirty) == (b"", ("data.bin",), True)


def test_a_change_in_the_second_of_the_commit_that_keeps_the_size_is_found(project):
    """Git tells it from none by the index being as old as the file: a copy of the index has to be as old."""
    run(project, "config", "core.trustctime", "false")
    then = 1_600_000_000
    os.utime(project / "kept.py", (then, then))
    run(project, "add", "--renormalize", "kept.py")
    run(project, "update-index", "--refresh")
    (project / "kept.py").write_text("a = 2\n")
    for path in (project / "kept.py", project / ".git" / "index"):
        os.utime(path, (then, then))
    assert b"+a = 2" in git.read_tree(project).diff


def test_a_diff_beyond_bounds_is_none(project, monkeypatch):
    monkeypatch.setattr(git, "MOST_BYTES", 10)
    (project / "kept.py").write_text("a = 3\n")
    assert git.read_tree(project).diff is None


def test_a_project_inside_a_repository_has_its_own_changes_alone(project):
    (project / "part").mkdir()
    (project / "part" / "train.py").write_text("x = 1\n")
    (project / "kept.py").write_text("a = 5\n")
    tree = git.read_tree(project / "part")
    assert tree.prefix == "part/"
    assert b"part/train.py" in tree.diff
    assert b"kept.py" not in tree.diff


def test_without_a_repository_or_a_commit_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git.read_tree(tmp_path) is None
    run(tmp_path, "init", "-q")
    assert git.read_tree(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.read_tree(tmp_path) is None
