import importlib.util
import json
import sys
from importlib.metadata import distributions

import pytest

from optwrap.provenance.code import differing, imported_code
from optwrap.provenance.packages import installed
from optwrap.provenance.record import read_starts, recorded_files, write_provenance


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """Import a module of a project; return a function that does so."""

    def load(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)

    return load


def test_code_is_what_was_imported_of_the_project(imported, tmp_path):
    imported("some_model", "a = 1\n")
    (tmp_path / "not_imported.py").write_text("")
    assert list(imported_code(tmp_path)) == ["some_model.py"]


def test_a_file_that_is_edited_while_the_process_runs_keeps_its_hash(imported, tmp_path):
    imported("some_task", "a = 1\n")
    before = imported_code(tmp_path)
    (tmp_path / "some_task.py").write_text("a = 2\n")
    assert imported_code(tmp_path) == before


def test_what_differs_is_named_also_where_it_is_gone(tmp_path):
    (tmp_path / "a.py").write_text("a = 1\n")
    assert differing({"a.py": "0123", "b.py": "4567"}, tmp_path) == ["a.py", "b.py"]


def test_each_start_is_written_after_the_one_before(tmp_path, imported):
    imported("some_data", "a = 1\n")
    folder = tmp_path / "run"
    folder.mkdir()
    write_provenance(folder, tmp_path, {"threads": 2, "data": "ab"})
    write_provenance(folder, tmp_path, {"threads": 3, "data": "ab"})
    assert [start["threads"] for start in read_starts(folder)] == [2, 3]
    assert list(recorded_files(folder)) == ["some_data.py"]
    assert {"time", "command", "python", "host", "commit"} <= set(read_starts(folder)[0])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"starts": 3}', '{"starts": [3]}', json.dumps({"starts": [{}]})])
def test_a_damaged_record_is_no_record(text, tmp_path):
    (tmp_path / "provenance.json").write_text(text)
    assert recorded_files(tmp_path) == {}


def test_packages_are_those_that_python_knows():
    known = {(each.name.lower().replace("_", "-"), each.version) for each in distributions()}
    found = {tuple(line.removeprefix("# ").split("==")) for line in installed()}
    assert {(name.replace(".", "-"), version) for name, version in known} == {
        (name.replace(".", "-"), version) for name, version in found
    }
