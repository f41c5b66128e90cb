import pytest
from torch import nn
from torch.optim import SGD

from optwrap.errors import ConfigError
from optwrap.optim import Metrics, OptimWrapper, OptimWrapperDict, build_schedule

TORCH = "torch.optim.lr_scheduler."
PLATEAU = {"_target_": TORCH + "ReduceLROnPlateau", "patience": 0, "factor": 0.5}
METRICS = Metrics({"accuracy": True, "loss": False, "score": None}, "accuracy")


def wrapper():
    return OptimWrapper(SGD(nn.Linear(1, 1).parameters(), lr=0.1))


def lrs(cfg, *shown, metrics=METRICS):
    """Return the lr after each evaluation of a plateau schedule."""
    optim_wrapper = wrapper()
    schedule = build_schedule(optim_wrapper, {"lr": cfg}, 10, metrics)
    seen = []
    for values in shown:
        schedule.step_on_metrics(values)
        seen.append(optim_wrapper.get_lr()["lr"][0])
    return seen


RISING = [{"accuracy": 0.1 * i, "loss": 3.0 - 0.1 * i, "score": 1.0} for i in range(1, 5)]


def test_a_plateau_follows_the_objective_in_its_direction():
    assert lrs(PLATEAU, *RISING) == [0.1] * 4
    assert lrs(PLATEAU, *RISING[::-1]) == [0.1, 0.05, 0.025, 0.0125]


def test_a_metric_of_ones_own_has_its_own_direction():
    cfg = {**PLATEAU, "metric": "loss"}
    assert lrs(cfg, *RISING) == [0.1] * 4
    assert lrs(cfg, *RISING[::-1]) == [0.1, 0.05, 0.025, 0.0125]


def test_a_direction_that_is_given_counts():
    assert lrs({**PLATEAU, "mode": "min"}, *RISING) == [0.1, 0.05, 0.025, 0.0125]
    assert lrs({**PLATEAU, "metric": "score", "mode": "min"}, *RISING) == [0.1, 0.05, 0.025, 0.0125]


def test_without_metrics_it_is_as_torch_does():
    assert lrs(PLATEAU, {"any": 1.0}, {"any": 2.0}, metrics=Metrics()) == [0.1, 0.05]


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"metric": "score"}, "schedule.lr.mode is not set.*'score'.*min or max"),
        ({"metric": "acuracy"}, "schedule.lr.metric=acuracy.*Did you mean 'accuracy'"),
        ({"mode": "up"}, "schedule.lr"),
    ],
)
def test_what_cannot_be_followed_is_an_error_before_the_run(cfg, said):
    with pytest.raises(ConfigError, match=said):
        lrs({**PLATEAU, **cfg})


def test_a_plateau_in_a_sequence_follows_the_objective_too():
    parts = [{"_target_": TORCH + "LinearLR", "start_factor": 0.1}, PLATEAU]
    cfg = {"_target_": TORCH + "SequentialLR", "milestones": [2], "schedulers": parts}
    optim_wrapper = wrapper()
    schedule = build_schedule(optim_wrapper, {"lr": cfg}, 10, METRICS)
    seen = []
    for values in (RISING[3], RISING[2], RISING[1], RISING[3], RISING[0]):
        seen.append(round(optim_wrapper.get_lr()["lr"][0], 6))
        optim_wrapper.update_params(sum(p.sum() for p in optim_wrapper.param_groups[0]["params"]))
        schedule.step()
        schedule.step_on_metrics(values)  # the first is shown before the plateau has begun
    assert seen == [0.01, 0.055, 0.1, 0.05, 0.05]
    assert optim_wrapper.get_lr()["lr"] == [0.025]


@pytest.mark.parametrize(
    "parts",
    [
        [PLATEAU, {"_target_": TORCH + "LinearLR"}],
        [{"_target_": TORCH + "LinearLR"}, {"_target_": TORCH + "ChainedScheduler", "schedulers": [PLATEAU]}],
    ],
)
def test_a_plateau_elsewhere_in_a_sequence_is_an_error(parts):
    cfg = {"_target_": TORCH + "SequentialLR", "milestones": [2], "schedulers": parts}
    with pytest.raises(
        ConfigError, match=r"schedule\.lr\.schedulers\[.*ReduceLROnPlateau can only be the last part"
    ):
        build_schedule(wrapper(), {"lr": cfg}, 10, METRICS)


def test_each_wrapper_of_several_is_shown_the_metrics():
    wrappers = OptimWrapperDict(gen=wrapper(), disc=wrapper())
    schedule = build_schedule(wrappers, {"gen": {"lr": PLATEAU}}, 10, METRICS)
    for values in RISING[::-1][:2]:
        schedule.step_on_metrics(values)
    assert wrappers.get_lr() == {"gen.lr": [0.05], "disc.lr": [0.1]}
