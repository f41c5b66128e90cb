import json
import time
from pathlib import Path

from optwrap.sweep.progress import SweepProgress, progress_line
from optwrap.sweep.records import Record, write_record


def job(folder, seed, metric, status="finished", higher_is_better=True, sweep="call"):
    folder.mkdir()
    record = Record().begun(["epochs=3", f"seed={seed}"], "val/accuracy", sweep)
    record = record if status == "running" else record.ended(status, metric=metric)
    write_record(folder, record)
    (folder / "result.json").write_text(json.dumps({"higher_is_better": higher_is_better}))
    return folder, record


def test_a_line_says_what_is_done_what_is_left_and_which_job_is_best(tmp_path):
    jobs = dict([job(tmp_path / "a", 0, 0.5), job(tmp_path / "b", 1, 0.7), job(tmp_path / "c", 2, None, "failed")])
    line = progress_line(jobs, total=6, seconds=30)
    assert line == "sweep: 2 of 6 jobs finished, 1 failed, about 0:30 left, best val/accuracy 0.7 (seed=1)"


def test_the_best_is_the_lowest_where_lower_is_better(tmp_path):
    jobs = dict(job(tmp_path / str(seed), seed, 1.0 + seed, higher_is_better=False) for seed in range(2))
    assert progress_line(jobs, total=None, seconds=1).endswith("2 jobs finished, best val/accuracy 1 (seed=0)")


def test_jobs_of_this_call_are_shown_once_they_have_ended(tmp_path, capsys):
    job(tmp_path / "other", 9, 0.9, sweep="an earlier call")
    with SweepProgress("call", lambda: tmp_path):
        job(tmp_path / "a", 0, 0.5)
        deadline = time.monotonic() + 20
        while "jobs finished" not in (seen := capsys.readouterr().out) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "sweep: 1 jobs finished" in seen
    assert capsys.readouterr().out == ""


def test_where_nothing_is_swept_nothing_is_shown(capsys):
    with SweepProgress("call", lambda: None):
        pass
    assert capsys.readouterr().out == ""
    assert progress_line({Path("a"): Record()}, None, 1.0) == "sweep: 0 jobs finished, 1 running"
