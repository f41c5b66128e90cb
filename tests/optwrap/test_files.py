import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from optwrap.files import drop_temporaries, new_folder, read_json, write_json, write_text


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


def test_numbers_that_json_has_not_come_back_from_json_that_all_can_read(tmp_path):
    content = {"loss": math.nan, "best": math.inf, "nested": {"worst": -math.inf, "list": [1.0, "nan"]}, "n": 3}
    write_json(tmp_path / "result.json", content)

    def refuse(constant):
        raise ValueError(constant)

    json.loads((tmp_path / "result.json").read_text(), parse_constant=refuse)
    again = read_json(tmp_path / "result.json")
    assert math.isnan(again.pop("loss"))
    assert again == {"best": math.inf, "nested": {"worst": -math.inf, "list": [1.0, "nan"]}, "n": 3}


def test_a_file_of_an_earlier_version_with_a_bare_nan_is_read(tmp_path):
    (tmp_path / "result.json").write_text('{"loss": NaN}')
    assert math.isnan(read_json(tmp_path / "result.json")["loss"])


def test_processes_that_want_one_name_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(new_folder, [tmp_path / "outputs" / "12-00-00"] * 20))
    names = {"12-00-00", *(f"12-00-00_{number}" for number in range(2, 21))}
    assert {path.name for path in made} == {path.name for path in (tmp_path / "outputs").iterdir()} == names
