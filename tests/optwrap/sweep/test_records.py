import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optwrap.lock import BusyError, locked
from optwrap.sweep.records import RECORD, Record, current, read_record, records, write_record


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


def test_a_job_whose_process_is_at_it_runs_and_one_whose_process_is_gone_was_killed(tmp_path, begun):
    write_record(tmp_path, begun)
    assert current(tmp_path).status == "running"
    write_record(tmp_path, replace(begun, pid=begun.pid + 1))
    assert current(tmp_path).status == "killed"


def test_a_job_that_another_process_holds_is_running(tmp_path, begun):
    write_record(tmp_path, replace(begun, pid=begun.pid + 1))
    code = (
        "import sys; from pathlib import Path; from optwrap.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert current(tmp_path).status == "running"
        with pytest.raises(BusyError), locked(tmp_path):
            pass
        holder.kill()
    assert current(tmp_path).status == "killed"
    with locked(tmp_path):
        pass
