import pytest
from omegaconf import OmegaConf

from optwrap.sweep.callback import jobs_planned

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
