import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optwrap.errors import ConfigError
from optwrap.sweep.records import RECORD, Record, current, is_held, locked, read_record, records, write_record


@pytest.fixture
def begun():
    return Record().begun(["seed=1"], "val/loss", "this sweep")


def test_a_record_is_read_as_it_was_written(tmp_path, begun):
    write_record(tmp_path, begun.ended("finished", metric=0.5))
    found = read_record(tmp_path)
    assert (found.status, found.metric, found.attempts, found.overrides) == ("finished", 0.5, 1, ["seed=1"])
    assert found.begun([], "val/loss", "next").attempts == 2
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(
        ["status", "overrides", "metric", "attempts", "sweep", "x"]), inner, max_size=4), max_leaves=6,
).map(lambda content: json.dumps(content).encode()))  # fmt: skip
def test_anything_else_in_its_place_is_no_record(tmp_path, content):
    (tmp_path / RECORD).write_bytes(content)
    assert read_record(tmp_path) is None
    assert records(tmp_path) == {}


def test_a_job_whose_process_holds_the_lock_is_running_and_one_whose_died_was_killed(tmp_path, begun):
    write_record(tmp_path, begun)
    with locked(tmp_path):
        assert is_held(tmp_path)
        assert current(tmp_path).status == "running"
    assert current(tmp_path).status == "killed"


def test_the_lock_is_free_when_its_holder_is_killed(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from optwrap.sweep.records import locked\n"
        "with locked(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    with locked(tmp_path, wait=0):
        pass


def test_a_held_lock_names_the_process_that_holds_it(tmp_path, begun):
    write_record(tmp_path, begun)
    with (
        locked(tmp_path),
        pytest.raises(ConfigError, match=f"process {begun.pid} on {begun.host}"),
        locked(tmp_path, 0),
    ):
        pass
