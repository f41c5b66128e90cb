import json

import pytest
from omegaconf import OmegaConf

from optwrap.errors import ConfigError
from optwrap.run.report import compare, read_runs, to_markdown


@pytest.fixture
def sweep(tmp_path):
    """Eleven runs as a sweep leaves them, one of them without a result."""
    for job in range(11):
        folder = tmp_path / str(job)
        (folder / ".hydra").mkdir(parents=True)
        overrides = [f"optim_wrapper={'[sgd]' if job < 6 else '[sgd,amp]'}", f"seed={job}", "epochs=3"]
        OmegaConf.save(overrides, folder / ".hydra" / "overrides.yaml")
        if job != 3:
            (folder / "result.json").write_text(json.dumps({"test/accuracy": 0.9 + job / 100, "updates": 5}))
    return tmp_path


def test_settings_are_what_differs_besides_the_seed(sweep):
    rows = compare(read_runs(sweep), ["test/accuracy"])
    assert rows == [
        {"optim_wrapper": "[sgd]", "runs": "5", "test/accuracy": "0.924 ± 0.02074"},
        {"optim_wrapper": "[sgd,amp]", "runs": "5", "test/accuracy": "0.98 ± 0.01581"},
    ]


def test_one_run_has_no_spread(sweep):
    assert compare(read_runs(sweep / "4"), ["updates"]) == [{"runs": "1", "updates": "5"}]


def test_a_table_is_markdown(sweep):
    table = to_markdown(compare(read_runs(sweep), ["updates"]))
    assert table.splitlines()[:3] == [
        "| optim_wrapper | runs | updates |",
        "| --- | --- | --- |",
        "| [sgd] | 5 | 5 ± 0 |",
    ]


def test_a_folder_without_finished_runs_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no finished run"):
        read_runs(tmp_path)


def test_an_unknown_metric_names_the_nearest(sweep):
    with pytest.raises(ConfigError, match="'test/accuracy'"):
        compare(read_runs(sweep), ["test/acc"])
