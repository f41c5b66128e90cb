import csv
import json

import pytest
from omegaconf import OmegaConf

from optwrap.errors import ConfigError
from optwrap.sweep.records import Record, write_record
from optwrap.sweep.report.results import read_jobs, write_results_csv
from optwrap.sweep.report.settings import check_metrics, objective, settings, swept_keys


@pytest.fixture
def sweep(tmp_path):
    """Eleven runs as calls of train.py leave them, one of them without a result."""
    for job in range(11):
        folder = tmp_path / str(job)
        (folder / ".hydra").mkdir(parents=True)
        overrides = [f"optim_wrapper={'[sgd]' if job < 6 else '[sgd,amp]'}", f"seed={job}", "epochs=3"]
        OmegaConf.save(overrides, folder / ".hydra" / "overrides.yaml")
        if job != 3:
            result = {"test/accuracy": 0.9 + job / 100, "updates": 5}
            result |= {"objective": "test/accuracy", "higher_is_better": True}
            (folder / "result.json").write_text(json.dumps(result))
    return tmp_path


def save(folder, overrides, config=None, choices=None, record=None):
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(overrides, folder / ".hydra" / "overrides.yaml")
    OmegaConf.save(config or {}, folder / ".hydra" / "config.yaml")
    OmegaConf.save({"hydra": {"runtime": {"choices": choices or {}}}}, folder / ".hydra" / "hydra.yaml")
    if record:
        write_record(folder, record)


def test_settings_are_what_differs_besides_the_seed(sweep):
    found = [(dict(each.values), each.metric("updates")) for each in settings(read_jobs(sweep))]
    assert found == [({"optim_wrapper": "[sgd]"}, [5.0] * 5), ({"optim_wrapper": "[sgd,amp]"}, [5.0] * 5)]


def test_runs_without_a_record_come_in_the_order_of_their_names(sweep):
    assert [job.folder.name for job in read_jobs(sweep)] == [str(job) for job in range(11)]


def test_a_key_typed_for_some_jobs_only_is_looked_up_for_the_others(tmp_path):
    config, choices = {"model": {"width": 8}, "epochs": 3}, {"optim_wrapper": "sgd"}
    save(tmp_path / "a", ["seed=0"], config, choices)
    save(tmp_path / "b", ["seed=0", "model.width=16"], config | {"model": {"width": 16}}, choices)
    save(tmp_path / "c", ["seed=0", "epochs=3", "optim_wrapper=adamw"], config, {"optim_wrapper": "adamw"})
    values = [dict(each.values) for each in settings(read_jobs(tmp_path))]
    assert values == [
        {"model.width": "8", "optim_wrapper": "sgd"},
        {"model.width": "16", "optim_wrapper": "sgd"},
        {"model.width": "8", "optim_wrapper": "adamw"},
    ]


def test_one_number_spelt_twice_is_one_value(tmp_path):
    save(tmp_path / "a", ["lr=0.10"])
    save(tmp_path / "b", ["lr=1e-1"])
    assert swept_keys(read_jobs(tmp_path)) == []


def test_results_csv_has_a_row_a_job_whatever_became_of_it(sweep):
    record = Record().begun(["optim_wrapper=[sgd]", "seed=9"], "test/accuracy", "call")
    save(sweep / "bad", [], record=record.ended("failed", error='a, "b"\nc'))
    with write_results_csv(sweep, read_jobs(sweep)).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows].count("finished") == 10
    assert [row["job"] for row in rows if row["status"] == "unfinished"] == ["3"]
    (bad,) = (row for row in rows if row["job"] == "bad")
    assert (bad["status"], bad["seed"], bad["error"], bad["attempts"]) == ("failed", "9", 'a, "b"\nc', "1")
    assert rows[0]["test/accuracy"] == "0.9"


@pytest.mark.parametrize("content", ["", "[1]", '{"test/accuracy"', "null"])
def test_a_damaged_result_is_that_of_an_unfinished_run(sweep, content):
    (sweep / "0" / "result.json").write_text(content)
    assert read_jobs(sweep)[0].status == "unfinished"


def test_a_folder_without_runs_and_a_sweep_without_a_finished_job_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="no run"):
        read_jobs(tmp_path)
    save(tmp_path / "a", ["seed=0"])
    with pytest.raises(ConfigError, match="no job has finished"):
        objective(read_jobs(tmp_path))


def test_an_unknown_metric_names_the_nearest(sweep):
    with pytest.raises(ConfigError, match="'test/accuracy'"):
        check_metrics(read_jobs(sweep), ["test/accuracy", "test/acc"])


def test_a_finished_job_without_a_metric_is_left_out_of_it(sweep):
    (sweep / "0" / "result.json").write_text('{"other": 1.0}')
    setting = settings(read_jobs(sweep))[0]
    assert [len(setting.metric(name)) for name in ("updates", "other")] == [4, 1]
