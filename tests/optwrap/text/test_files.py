"""Which files are a corpus."""

import os
import sysconfig

from optwrap.text.files import stdlib_files


def test_the_sources_of_python_are_those_without_tests_and_what_was_installed(tmp_path, monkeypatch):
    for name in ("json/tool.py", "ast.py", "test.py", "notes.txt", "test/test_ast.py", "site-packages/other/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    entered, walk = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: entered.append(os.fspath(folder)) or walk(folder))
    names = ["ast.py", os.path.join("json", "tool.py"), "test.py"]
    assert stdlib_files() == {name: tmp_path / name for name in names}
    assert sorted(entered) == [str(tmp_path), str(tmp_path / "json")]  # what is installed may be very large
