import math
from types import SimpleNamespace

import pytest
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import BinaryAccuracy

from optwrap.errors import ConfigError
from optwrap.plan.objective import Objective, objective_of

TASK = SimpleNamespace(
    metrics=MetricCollection({"loss": MeanMetric(), "accuracy": BinaryAccuracy(), "score": MeanMetric()})
)


def improving(objective, values):
    return [value for value in values if objective.improves(value)]


def test_an_objective_that_the_task_has_not_is_an_error_that_names_the_nearest():
    with pytest.raises(ConfigError, match="val/accuracy"):
        Objective("val/acuracy", TASK)


def test_a_task_says_its_objective_and_one_that_does_not_is_judged_by_its_loss():
    assert objective_of(TASK) == "val/loss"
    assert objective_of(SimpleNamespace(metrics=TASK.metrics, objective="val/score")) == "val/score"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, r"objective=null: .*no objective and no metric loss\. .*val/accuracy, test/accuracy"),
        ({"objective": "val/acuracy"}, r"objective=val/acuracy, which is no metric.*val/accuracy"),
    ],
)
def test_without_a_metric_to_judge_by_the_error_lists_those_there_are(said, message):
    metrics = MetricCollection({"accuracy": BinaryAccuracy()})
    with pytest.raises(ConfigError, match=message):
        objective_of(SimpleNamespace(metrics=metrics, **said))


@pytest.mark.parametrize(
    ("name", "better", "expected"),
    [
        ("val/accuracy", None, [1.0, 2.0]),
        ("val/loss", None, [1.0, 0.5]),
        ("test/loss", "max", [1.0, 2.0]),
        ("val/score", None, []),
        ("val/score", "min", [1.0, 0.5]),
    ],
)
def test_what_is_better_is_told_by_the_config_the_metric_or_its_name(name, better, expected):
    assert improving(Objective(name, TASK, better), [math.nan, 1.0, 1.0, 0.5, 2.0, 0.6]) == expected


def test_another_direction_is_an_error():
    with pytest.raises(ConfigError, match=r"checkpoint.best=higher"):
        Objective("val/loss", TASK, "higher")
