import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn
from torchmetrics import MeanMetric, MetricCollection

from optwrap.run.evaluation import BATCHES, evaluate, recomputed_batch_norm, write_artifacts


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


class Norms(nn.Module):
    """A model whose second norm no batch comes through."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.unused.running_mean.fill_(7.0)

    def forward(self, batch):
        return self.used(batch)


@pytest.mark.parametrize("count", [3, BATCHES + 5])
def test_recomputed_statistics_are_those_of_torch_and_go_again(count):
    model, batches = Norms(), [torch.randn(4, 3) for _ in range(count)]
    task = SimpleNamespace(model=model, metrics=MetricCollection({"loss": MeanMetric()}), eval_step=model)
    data = SimpleNamespace(
        training=lambda first, last: batches[first:last], order=SimpleNamespace(per_epoch=len(batches))
    )
    before, expected = copy.deepcopy(model.state_dict()), copy.deepcopy(model)
    update_bn(batches[:BATCHES], expected)
    with recomputed_batch_norm(task, data):
        assert model.training
        torch.testing.assert_close(model.used.state_dict(), expected.used.state_dict())
        assert model.unused.running_mean.tolist() == [7.0] * 3
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert model.used.momentum == 0.1
