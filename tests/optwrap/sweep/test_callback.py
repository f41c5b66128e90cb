import json

import pytest
from omegaconf import OmegaConf

from optwrap.sweep.callback import SweepFolder, SweepStart, jobs_planned

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def config(overrides, **sweeper):
    hydra = {"sweeper": {"_target_": BASIC, "params": None, **sweeper}, "overrides": {"task": overrides}}
    return OmegaConf.create({"hydra": hydra})


@pytest.mark.parametrize(
    ("overrides", "params", "jobs"),
    [
        ([], None, 1),
        (["seed=0,1,2", "epochs=3", "optim_wrapper=[sgd],[sgd,amp]"], None, 6),
        (["seed=range(0,5)"], {"lr": "1,2"}, 10),
        (["seed=0,1"], {"seed": "0,1,2,3,4"}, 2),
        (["model=glob(*)"], None, None),
    ],
)
def test_a_grid_has_as_many_jobs_as_points(overrides, params, jobs):
    assert jobs_planned(config(overrides, params=params)) == jobs


def test_a_search_has_as_many_jobs_as_trials_and_another_sweeper_an_unknown_number():
    assert jobs_planned(config(["lr=interval(0,1)"], n_trials=7)) == 7
    assert jobs_planned(config([], _target_="elsewhere.Sweeper")) is None


def test_the_folder_of_a_sweep_is_noted_by_whom_it_begins_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    started = OmegaConf.merge(config(["seed=0,1"]), {"hydra": {"sweep": {"dir": "out"}}})
    first, second = SweepFolder(), SweepFolder()
    with first.filled_in():
        with second.filled_in():
            SweepStart().on_multirun_start(started)
        assert (first.path, second.path) == (None, tmp_path / "out")
    SweepStart().on_multirun_start(started)
    assert first.path is None
    assert json.loads((tmp_path / "out" / "sweep.json").read_text())["jobs"] == 2
