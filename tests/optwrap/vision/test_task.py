from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optwrap.errors import ConfigError
from optwrap.vision import ClassificationTask


class RecordingWrapper:
    """The part of an optimizer wrapper that a task calls."""

    def __init__(self) -> None:
        self.losses: list[torch.Tensor] = []
        self.contexts: list[nn.Module] = []
        self.inside = False

    @contextmanager
    def optim_context(self, model):
        self.contexts.append(model)
        self.inside = True
        yield
        self.inside = False

    def update_params(self, loss):
        assert not self.inside
        loss.backward()
        self.losses.append(loss)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])


def _model(classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def test_a_training_step_updates_once_and_returns_detached_scalars(batch):
    model, wrapper = _model(), RecordingWrapper()
    result = ClassificationTask(model, num_classes=3).train_step(batch, wrapper)
    images, labels = batch
    assert wrapper.contexts == [model]
    assert len(wrapper.losses) == 1
    torch.testing.assert_close(result["loss"], F.cross_entropy(model(images), labels).detach())
    torch.testing.assert_close(result["accuracy"], (model(images).argmax(1) == labels).float().mean())
    assert all(value.ndim == 0 and not value.requires_grad for value in result.values())


def test_the_model_and_the_loss_run_inside_the_context(batch):
    wrapper, seen = RecordingWrapper(), []
    model = _model()
    model.register_forward_hook(lambda *_: seen.append(wrapper.inside))
    ClassificationTask(model, num_classes=3).train_step(batch, wrapper)
    assert seen == [True]


def test_label_smoothing_counts_in_training_and_not_in_evaluation(batch):
    images, labels = batch
    model = _model()
    task = ClassificationTask(model, num_classes=3, label_smoothing=0.2)
    loss = task.train_step(batch, RecordingWrapper())["loss"]
    torch.testing.assert_close(loss, F.cross_entropy(model(images), labels, label_smoothing=0.2).detach())
    task.eval_step(batch)
    torch.testing.assert_close(
        task.metrics.compute()["loss"].float(), F.cross_entropy(model(images), labels).detach()
    )


def test_evaluation_weighs_images_equally_whatever_the_batches(batch):
    images, labels = batch
    model = _model()
    task = ClassificationTask(model, num_classes=3)
    for part in (slice(0, 5), slice(5, 6)):
        task.eval_step((images[part], labels[part]))
    values = task.metrics.compute()
    assert set(values) == {"loss", "accuracy"}
    torch.testing.assert_close(values["loss"].float(), F.cross_entropy(model(images), labels).detach())
    assert values["accuracy"].float() == (model(images).argmax(1) == labels).float().mean()


def test_evaluation_needs_no_gradient_and_leaves_none(batch):
    model = _model()
    ClassificationTask(model, num_classes=3).eval_step(batch)
    assert all(p.grad is None for p in model.parameters())


def test_a_nan_in_evaluation_shows(batch):
    images, labels = batch
    task = ClassificationTask(_model(), num_classes=3)
    task.eval_step((images * float("nan"), labels))
    assert task.metrics.compute()["loss"].isnan()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (_model(classes=5), r"\(6, 5\)"),
        (nn.Conv2d(1, 3, 1), r"\(6, 3, 4, 4\)"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(96, 3), nn.Unflatten(0, (1, 3))), r"\(1, 3\)"),
    ],
    ids=["classes", "dimensions", "batch"],
)
@pytest.mark.parametrize("step", ["train", "eval"])
def test_an_output_that_does_not_fit_names_shapes_and_keys(batch, model, shape, step):
    task = ClassificationTask(model, num_classes=3)
    with pytest.raises(ConfigError, match=rf"{shape}.*\(6, 3\).*task\.num_classes=3.*model\.num_classes"):
        task.train_step(batch, RecordingWrapper()) if step == "train" else task.eval_step(batch)


def test_an_output_that_is_no_tensor_is_named(batch):
    class Tuple(nn.Module):
        def forward(self, images):
            return images, images

    with pytest.raises(ConfigError, match="returned tuple"):
        ClassificationTask(Tuple(), num_classes=3).eval_step(batch)


def test_label_smoothing_out_of_range_names_the_key():
    with pytest.raises(ConfigError, match=r"task\.label_smoothing=1\.0"):
        ClassificationTask(_model(), num_classes=3, label_smoothing=1.0)
