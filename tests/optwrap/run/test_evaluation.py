from types import SimpleNamespace

import torch
from torch import nn
from torchmetrics import MeanMetric, MetricCollection

from optwrap.run.evaluation import evaluate, write_artifacts


class Task:
    def __init__(self):
        self.model = nn.BatchNorm1d(1)
        self.metrics = MetricCollection({"loss": MeanMetric(), "accuracy": MeanMetric()})
        self.modes = []

    def eval_step(self, batch):
        self.modes.append(self.model.training)
        self.metrics["loss"].update(batch)
        self.metrics["accuracy"].update(1.0)


def test_metrics_are_over_every_sample_of_this_evaluation():
    task = Task()
    evaluate(task, [torch.full((3,), 50.0)])
    assert evaluate(task, [torch.tensor([1.0, 2.0]), torch.tensor([6.0])]) == {"loss": 3.0, "accuracy": 1.0}


def test_the_model_evaluates_in_eval_mode_and_goes_back():
    task = Task()
    evaluate(task, [torch.ones(1)])
    assert task.modes == [False]
    assert task.model.training


def test_a_task_may_leave_files_of_its_own(tmp_path):
    task = SimpleNamespace(write_artifacts=lambda folder, update: (folder / f"{update}.txt").touch())
    write_artifacts(task, tmp_path, 7)
    write_artifacts(Task(), tmp_path, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["7.txt"]
