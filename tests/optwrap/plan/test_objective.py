import math
from types import SimpleNamespace

import pytest
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import BinaryAccuracy

from optwrap.errors import ConfigError
from optwrap.plan.objective import Objective

TASK = SimpleNamespace(
    metrics=MetricCollection({"loss": MeanMetric(), "accuracy": BinaryAccuracy(), "score": MeanMetric()})
)


def improving(objective, values):
    return [value for value in values if objective.improves(value)]


def test_an_objective_that_the_task_has_not_is_an_error_that_names_the_nearest():
    with pytest.raises(ConfigError, match="val/accuracy"):
        Objective("val/acuracy", TASK)


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
