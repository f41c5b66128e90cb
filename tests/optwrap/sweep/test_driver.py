"""Sweeps as their users meet them: called, killed, called again."""

import csv
import json
import os
import signal
import time

import pytest


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def results(program):
    with (program.out / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_same_command_again_runs_nothing_twice_and_new_points_only(program):
    first = program.sweep("seed=0", "epochs=2,3")
    again = program.sweep("seed=0", "epochs=2,3")
    more = program.sweep("seed=0,1", "epochs=2,3")
    assert [first.code, again.code, more.code] == [0, 0, 0]
    assert sorted(program.ran) == ["0 2", "0 3", "1 2", "1 3"]
    assert len(results(program)) == 4
    assert "2 of 2 jobs finished" in again.out
    assert json.loads((program.out / "sweep.json").read_text())["jobs"] == 4


@pytest.mark.slow
def test_keys_that_change_no_result_make_no_other_job(program):
    program.sweep("seed=0,1")
    program.sweep("seed=0,1", "log_every=7", "logger=none")
    assert sorted(program.ran) == ["0 20", "1 20"]


@pytest.mark.slow
def test_an_objective_left_to_the_task_is_recorded_as_the_result_names_it(program):
    assert "best val/accuracy 3" in program.sweep("seed=0", "epochs=2,3", "objective=null").out
    records = [json.loads(path.read_text()) for path in program.out.rglob("record.json")]
    assert sorted((record["objective"], record["metric"]) for record in records) == [
        ("val/accuracy", 2.0),
        ("val/accuracy", 3.0),
    ]


def test_a_sweep_killed_in_its_middle_goes_on_to_the_results_of_an_uninterrupted_one(program, tmp_path):
    points = ("seed=0,1,2", "epochs=2,3")
    process = program.start(*points, JOB_SECONDS="0.1")
    wait_until(lambda: len(program.ran) >= 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finished = [job for job, status in program.statuses().items() if status == "finished"]
    assert 2 <= len(finished) < 6
    assert program.sweep(*points).code == 0
    rows = results(program)
    assert len(rows) == 6
    assert {(row["seed"], row["epochs"]): float(row["val/accuracy"]) for row in rows} == {
        (str(seed), str(epochs)): epochs + seed / 10 for seed in range(3) for epochs in (2, 3)
    }
    assert all(program.ran.count(job) == 1 for job in finished)


def test_a_job_that_raises_leaves_the_others_alone_and_is_named_with_its_traceback(program):
    program.fault(1, "raise")
    ended = program.sweep("seed=0,1,2")
    assert ended.code == 1
    assert program.statuses() == {"0 20": "finished", "1 20": "failed", "2 20": "finished"}
    last = ended.err.strip().splitlines()
    assert last[0] == "1 of 3 jobs did not finish:"
    assert "seed=1: ZeroDivisionError: seed of trouble" in ended.err
    assert "hydra.sweep.dir=out" in ended.err
    assert "job failed: seed=1" in ended.out
    (log,) = (path for path in program.out.glob("*/train.log") if "failed" in path.read_text())
    assert "Traceback (most recent call last)" in log.read_text()
    program.mend(1)
    assert program.sweep("seed=0,1,2").code == 0
    assert sorted(program.ran) == ["0 20", "1 20", "1 20", "2 20"]
    assert [row["status"] for row in results(program)] == ["finished"] * 3


@pytest.mark.slow
def test_a_sweep_with_a_job_that_raises_exits_with_1_and_its_report(program):
    program.fault(-1, "raise")
    ended = program.sweep("seed=0,-1")
    assert ended.code == 1
    assert "seed=-1: ZeroDivisionError: seed of trouble" in ended.err
    assert [(row["seed"], row["status"]) for row in results(program)] == [("0", "finished"), ("-1", "failed")]
    assert (program.out / "report/index.html").is_file()
    assert "1 of 2" in (program.out / "report/table.md").read_text()


@pytest.mark.slow
def test_a_sweep_needs_nothing_that_hydra_warns_it_will_take_away(program, monkeypatch):
    monkeypatch.setenv("HYDRA_DEPRECATION_WARNINGS_AS_ERRORS", "1")
    assert program.sweep("seed=0,1").code == 0
    assert program.statuses() == {"0 20": "finished", "1 20": "finished"}


@pytest.mark.slow
def test_a_callback_may_lie_in_any_package_but_those_that_hydra_refuses(program, monkeypatch):
    (program.folder / "own_callbacks.py").write_text(
        "from pathlib import Path\nfrom hydra.experimental.callback import Callback\n\n"
        "class Writes(Callback):\n    def __init__(self, name):\n        Path(name).touch()\n"
    )
    monkeypatch.syspath_prepend(program.folder)
    assert program.sweep("seed=0", "+hydra.callbacks.own={_target_: own_callbacks.Writes, name: called}").code == 0
    assert (program.folder / "called").is_file()
    ended = program.sweep("seed=0", "+hydra.callbacks.own={_target_: os.remove, path: called}")
    assert (ended.code, ended.err) == (1, "hydra.callbacks.own: Target 'os.remove' is blocklisted by Hydra\n")
    assert (program.folder / "called").is_file()


@pytest.mark.slow
def test_a_job_that_exits_has_failed_and_ends_no_sweep(program):
    program.fault(0, "exit")
    ended = program.sweep("seed=0,1")
    assert ended.code == 1
    assert program.statuses() == {"0 20": "failed", "1 20": "finished"}
    assert "seed=0: SystemExit: exit code 0" in ended.err


@pytest.mark.slow
def test_the_last_lines_have_the_first_line_of_an_error_and_a_command_that_can_be_pasted(program):
    program.fault(0, "lines")
    ended = program.sweep("seed=0,1", "hydra.sweep.dir=my sweep")
    assert "seed=0: ValueError: first\n" in ended.err
    assert """'hydra.sweep.dir=my sweep'""" in ended.err
    errors = [json.loads(path.read_text())["error"] for path in program.folder.glob("my sweep/*/record.json")]
    assert sorted(errors) == ["", "ValueError: first\nsecond\na note"]


@pytest.mark.slow
def test_jobs_that_all_diverge_have_a_report(program):
    for seed in (0, 1):
        program.fault(seed, "nan")
    ended = program.sweep("seed=0,1", "epochs=1,2", "batch_size=3,4")
    assert ended.code == 0
    assert "nan (2 of 2)" in (program.out / "report/table.md").read_text()


@pytest.mark.slow
def test_of_a_trial_whose_objective_is_nan_a_search_is_told_that_it_failed(program, monkeypatch):
    (program.folder / "told.py").write_text(
        "from hydra.experimental.callback import Callback\n"
        "class Told(Callback):\n"
        "    def on_job_end(self, config, job_return, **kwargs):\n"
        "        with open(config.hydra.runtime.cwd + '/told', 'a') as file:\n"
        "            print(job_return.return_value, file=file)\n"
    )
    monkeypatch.syspath_prepend(program.folder)
    program.fault(0, "nan")
    arguments = ("seed=0,1", "+hydra.callbacks.told._target_=told.Told")
    assert [program.sweep(*arguments).code for _ in range(2)] == [0, 0]
    assert (program.folder / "told").read_text().split() == ["None", "20.1"] * 2


@pytest.mark.slow
def test_jobs_may_stand_in_their_own_folders(program):
    ended = program.sweep("seed=0,1", "hydra.job.chdir=true")
    assert (ended.code, ended.err) == (0, "")
    assert program.statuses() == {"0 20": "finished", "1 20": "finished"}


@pytest.mark.slow
def test_full_errors_keep_the_records_and_run_no_finished_job_again(program, monkeypatch):
    program.sweep("seed=0")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    program.fault(1, "raise")
    ended = program.sweep("seed=0,1")
    assert ended.code == 1
    assert program.ran == ["0 20", "1 20"]
    assert program.statuses() == {"0 20": "finished", "1 20": "failed"}
    assert "job.py" in ended.out


@pytest.mark.slow
def test_every_batch_of_a_sweep_runs_though_a_job_of_the_first_raises(program):
    program.fault(0, "raise")
    assert program.sweep("seed=0,1,2", "hydra.sweeper.max_batch_size=1").code == 1
    assert program.statuses() == {"0 20": "failed", "1 20": "finished", "2 20": "finished"}


STOPS = {
    "ctrl-c": (lambda pid: os.killpg(pid, signal.SIGINT), 130),
    "sigterm": (lambda pid: os.kill(pid, signal.SIGTERM), 143),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ctrl-c", pytest.param("sigterm", marks=pytest.mark.slow)])
def test_ctrl_c_and_sigterm_end_the_sweep_and_say_how_to_go_on(program, name):
    stop, code = STOPS[name]
    program.fault(1, "wait")
    process = program.start("seed=0,1,2")
    wait_until(lambda: len(program.ran) == 2)
    stop(process.pid)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "hydra.sweep.dir=out" in err
    assert "Traceback" not in err
    assert program.statuses() == {"0 20": "finished", "1 20": "interrupted"}
    assert [row["status"] for row in results(program)] == ["finished", "interrupted"]
    assert (program.out / "report/settings.png").is_file()
    program.mend(1)
    assert program.sweep("seed=0,1,2").code == 0
    assert sorted(program.ran) == ["0 20", "1 20", "1 20", "2 20"]


@pytest.mark.slow
def test_a_job_that_another_process_runs_is_an_error_that_says_so(program):
    program.fault(0, "wait")
    first = program.start("seed=0")
    wait_until(lambda: program.ran == ["0 20"])
    ended = program.sweep("seed=0,1")
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert ended.code == 1
    assert f"another process (process {program.records()['0 20']['pid']} on " in ended.err
    assert "Traceback" not in ended.err
    assert program.statuses()["1 20"] == "finished"
    assert program.ran == ["0 20", "1 20"]


@pytest.mark.slow
def test_a_search_in_which_every_job_fails_ends_as_a_sweep_does(program):
    pytest.importorskip("optuna")
    program.fault(1, "raise")
    ended = program.sweep("hydra/sweeper=search", "hydra.sweeper.n_trials=2", "seed=1", "epochs=range(1,9)")
    assert ended.code == 1
    assert "2 of 2 jobs did not finish" in ended.err
    assert "best_trial" not in ended.err + ended.out


def test_folders_named_by_number_are_refused(program):
    ended = program.sweep("seed=0", "hydra.sweep.subdir=${hydra.job.num}")
    assert ended.code == 1
    assert "optwrap.job_id" in ended.err


def test_a_job_s_folder_outside_of_the_sweep_s_is_an_error(program):
    ended = program.sweep("seed=0", "hydra.sweep.subdir=../${optwrap.job_id:resume}")
    assert ended.code == 1
    assert "hydra.sweep.subdir=../${optwrap.job_id:resume}: this leads out of the sweep's folder" in ended.err
    assert program.ran == []
    assert not program.ran


LAUNCHERS = {
    "joblib": ["hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra.launcher.timeout_min=5"],
    "ray": ["+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.remote.max_retries=0"],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_job_and_one_that_raises_are_named_and_the_others_complete(program, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    program.fault(1, "raise")
    program.fault(3, "kill")
    points = (f"hydra/launcher={launcher}", *LAUNCHERS[launcher], "seed=0,1,2,3")
    ended = program.sweep_apart(*points, JOB_SECONDS="0.2")
    expected = {f"{seed} 20": "finished" for seed in range(4)} | {"1 20": "failed", "3 20": "killed"}
    assert program.statuses() == expected
    assert ended.code == 1
    assert "2 of 4 jobs did not finish" in ended.err
    before = program.ran
    program.mend(1)
    program.mend(3)
    assert program.sweep_apart(*points).code == 0
    assert sorted(program.ran[len(before) :]) == ["1 20", "3 20"]
    assert [row["status"] for row in results(program)] == ["finished"] * 4


def stale(program, **changed):
    """Have the finished jobs be of other code: `changed` are files with the hashes that they had."""
    for record in program.out.rglob("record.json"):
        start = {"files": changed}
        (record.parent / "provenance.json").write_text(json.dumps({"starts": [start]}))


@pytest.mark.slow
def test_finished_jobs_of_other_code_are_named_rerun_or_an_error_as_told(program):
    program.sweep("seed=0,1")
    stale(program, **{"pyproject.toml": "0123"})
    again = program.sweep("seed=0,1")
    assert "other code has made 2 of the 2 jobs" in again.err + again.out
    assert "pyproject.toml changed since. sweep.stale=rerun runs them again" in again.err + again.out
    assert sorted(program.ran) == ["0 20", "1 20"]
    error = program.sweep("seed=0,1", "sweep.stale=error")
    assert error.code == 1
    assert "sweep.stale=error: other code has made the finished job" in error.err
    rerun = program.sweep("seed=0,1", "sweep.stale=rerun")
    assert rerun.code == 0
    assert sorted(program.ran) == ["0 20", "0 20", "1 20", "1 20"]
    assert len(results(program)) == 2
    assert len(list(program.out.glob("*/earlier/1/result.json"))) == 2


@pytest.mark.slow
def test_the_row_of_the_config_s_own_values_is_the_baseline(program):
    program.sweep("epochs=19,20", "seed=0,1", "batch_size=32")  # epochs: 20 in the config
    with (program.out / "report/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epochs"], row["difference"]) for row in rows] == [
        ("19", "-1.0 [-1.0, -1.0]"), ("20", "baseline"),
    ]  # fmt: skip
    program.sweep("epochs=18,22", "batch_size=32", "hydra.sweep.dir=none")
    assert "difference" not in (program.folder / "none/report/table.csv").read_text()
