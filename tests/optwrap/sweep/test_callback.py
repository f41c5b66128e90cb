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
    repeated = config(["lr=interval(0,1)", "seed=0,1", "+data.fold=range(0,5)"], n_trials=7)
    repeated.hydra.sweeper.repeats = ["seed", "data.fold"]
    assert jobs_planned(repeated) == 70
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


@pytest.mark.parametrize(("named", "folders"), [("${now:%H-%M-%S}", 2), ("${now:%Y-%m-%d}", 1), ("mine", 1)])
def test_sweeps_named_by_the_time_to_the_second_have_a_folder_each(named, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    OmegaConf.register_new_resolver("now", lambda pattern: pattern.replace("%", ""), replace=True)
    hydra = {"sweep": {"dir": f"out/{named}"}, "overrides": {"hydra": []}}
    configs = [OmegaConf.merge(config(["seed=0"]), {"hydra": hydra}) for _ in range(2)]
    for each in configs:
        SweepStart().on_multirun_start(each)
    assert len(list((tmp_path / "out").iterdir())) == folders
    if folders == 2:  # of these each job is composed
        assert [each.hydra.overrides.hydra for each in configs] == [
            ["hydra.sweep.dir=out/H-M-S"],
            ["hydra.sweep.dir=out/H-M-S_2"],
        ]
