"""The picture of the worst samples."""

import pytest
import torch
from PIL import Image

from optwrap.use.rows import Rows
from optwrap.use.worst import Worst

ROWS = Rows(["cat", "dog"], None)


def seen(count, losses, images=None):
    """Three batches of ten."""
    worst = Worst(count, ROWS)
    images = torch.rand(30, 3, 6, 6) if images is None else images
    for first in (0, 10, 20):
        part = slice(first, first + 10)
        columns = {"target": torch.zeros(10).long(), "prediction": torch.ones(10).long(), "loss": losses[part]}
        worst.see(images[part], columns, first)
    return worst


def test_those_of_highest_loss_over_all_batches_come_first_and_nan_before_them():
    losses = torch.rand(30)
    losses[17] = float("nan")
    expected = [17, *losses.nan_to_num(-1).argsort(descending=True)[:4].tolist()]
    found = seen(5, losses).samples
    assert [each.index for each in found] == expected
    assert found[0].caption == "index 17\nis cat\npredicted dog\nloss nan"


def test_without_targets_those_that_the_model_is_least_sure_of():
    worst = Worst(1, ROWS)
    probability = torch.tensor([[0.9, 0.1], [0.45, 0.55], [0.3, 0.7]])
    worst.see(torch.rand(3, 1, 4, 4), {"prediction": probability.argmax(dim=1), "probability": probability}, 0)
    assert [(each.index, each.caption) for each in worst.samples] == [(1, "index 1\npredicted dog (55%)")]


def test_what_is_no_image_is_not_drawn():
    assert seen(5, torch.rand(30), torch.rand(30, 7)).samples == []
    assert seen(5, torch.rand(30), torch.rand(30, 5, 6, 6)).samples == []


@pytest.mark.slow
def test_the_picture_is_small_whatever_the_images(tmp_path):
    seen(16, torch.rand(30), torch.rand(30, 3, 128, 128)).draw(tmp_path / "worst.png")
    assert (tmp_path / "worst.png").stat().st_size < 450_000
    with Image.open(tmp_path / "worst.png") as picture:
        assert picture.size[0] > 600
