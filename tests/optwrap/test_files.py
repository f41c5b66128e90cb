from concurrent.futures import ThreadPoolExecutor

import pytest

from optwrap.files import drop_temporaries, new_folder, write_text


def test_what_a_killed_write_has_left_goes_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "kept").mkdir()
    for name in ("a.json.123.tmp", "a.json", "mine.tmp", "kept/b.1.tmp"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.5.tmp").mkdir()
    drop_temporaries(tmp_path)
    left = sorted(path.name for path in tmp_path.rglob("*"))
    assert left == ["a.json", "b.1.tmp", "folder.5.tmp", "kept", "mine.tmp"]


def test_a_write_that_fails_leaves_what_was_there_alone(tmp_path):
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "\ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


def test_processes_that_want_one_name_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(new_folder, [tmp_path / "outputs" / "12-00-00"] * 20))
    names = {"12-00-00", *(f"12-00-00_{number}" for number in range(2, 21))}
    assert {path.name for path in made} == {path.name for path in (tmp_path / "outputs").iterdir()} == names
