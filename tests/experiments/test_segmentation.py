"""Scenes of digits, and updates in which each labelled pixel counts once."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from experiments.segmentation import IGNORED, EncoderDecoder, SegmentationTask, digit_scenes, scenes_of
from experiments.segmentation_gradients import gradients
from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper


@pytest.fixture(scope="module")
def scenes():
    return digit_scenes(size=24, eval_size=12)


def built(weighted=True, accumulative_counts=1):
    torch.manual_seed(0)
    model = EncoderDecoder(1, 11, width=4)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.5), accumulative_counts)
    return model, wrapper, SegmentationTask(model, 11, weighted)


def test_a_scene_is_digits_on_noise_with_their_classes_and_ignored_borders(scenes):
    assert scenes.classes[:2] == ["background", "0"]
    assert [len(each) for each in (scenes.train, scenes.val, scenes.test)] == [24, 12, 12]
    images, masks = scenes.val.tensors
    assert images.shape == (12, 1, 20, 20)
    assert set(masks.unique().tolist()) <= {*range(11), IGNORED}
    assert (images[:, 0][(masks > 0) & (masks != IGNORED)] >= 100 / 255).all()
    assert (images[:, 0][masks == 0] < 64 / 255).all()
    labelled = (scenes.train.tensors[1] != IGNORED).float().mean(dim=(1, 2))
    assert labelled.min() < 0.2 < 0.5 < labelled.max()  # a rectangle of any size


def test_each_pixel_of_a_pasted_digit_is_ink_border_or_what_was_there_before():
    digit = torch.zeros(1, 8, 8, dtype=torch.uint8)
    digit[:, 2:6, 2:6], digit[:, 3:5, 3:5] = 99, 200
    images, masks = scenes_of(digit, torch.tensor([7]), 30, 12, torch.Generator().manual_seed(0))
    pixels = (images * 255).round()
    assert torch.equal(masks == 8, pixels == 200)
    assert torch.equal(masks == IGNORED, pixels == 99)
    assert torch.equal(masks == 0, pixels < 64)
    single = (masks != 0).sum(dim=(1, 2)) == 16
    assert single.any()
    assert ((masks[single] == 8).sum(dim=(1, 2)) == 4).all()
    assert ((masks != 0).sum(dim=(1, 2)) >= 16).all()


def test_scenes_depend_on_the_split_seed_alone():
    first, again, other = (digit_scenes(8, 4, split_seed=seed).train.tensors for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("numbers", [{"size": 0}, {"image_size": 22}, {"image_size": 8}])
def test_a_size_that_cannot_be_is_named(numbers):
    ((key, value),) = numbers.items()
    with pytest.raises(ConfigError, match=rf"data\.{key}={value}"):
        digit_scenes(**numbers)


def test_a_width_that_does_not_fit_the_norms_is_named():
    with pytest.raises(ConfigError, match=r"model\.width=6"):
        EncoderDecoder(1, 11, width=6)


def test_an_update_over_unequal_micro_batches_is_that_of_the_whole_batch(scenes):
    images, masks = scenes.train.tensors
    parts = [slice(0, 1), slice(1, 4), slice(4, 24)]
    model, wrapper, task = built(accumulative_counts=len(parts))
    twin = built()[0]
    # Plain torch: the mean over all labelled pixels of all scenes, one step of SGD.
    params = list(twin.parameters())
    loss = F.cross_entropy(twin(images), masks, ignore_index=IGNORED)
    for param, grad in zip(params, torch.autograd.grad(loss, params), strict=True):
        param.data -= 0.5 * grad
    stats = [task.train_step((images[part], masks[part]), wrapper) for part in parts]
    for param, expected in zip(model.parameters(), params, strict=True):
        torch.testing.assert_close(param, expected, rtol=1e-5, atol=1e-6)
    assert wrapper.updates == 1
    assert sum(each["pixels"] for each in stats) == (masks != IGNORED).sum()
    torch.testing.assert_close(
        sum(each["loss"] * each["pixels"] for each in stats) / (masks != IGNORED).sum(), loss
    )


def test_without_weights_the_gradient_is_percents_off_and_with_them_it_is_not(scenes):
    off = {}
    for weighted in (True, False):
        accumulated, whole = gradients(*scenes.train.tensors, 4, weighted, seed=0, width=4)
        off[weighted] = ((accumulated - whole).norm() / whole.norm()).item()
    assert off[True] < 1e-5
    assert off[False] > 0.01


@pytest.mark.parametrize("weighted", [True, False])
def test_a_micro_batch_without_a_labelled_pixel_leaves_finite_weights(scenes, weighted):
    model, wrapper, task = built(weighted)
    before = [param.clone() for param in model.parameters()]
    stats = task.train_step((scenes.train.tensors[0][:2], torch.full((2, 20, 20), IGNORED)), wrapper)
    assert (stats["loss"], stats["pixels"]) == (0, 0)
    assert all(map(torch.equal, before, model.parameters()))


def test_the_mean_iou_and_the_loss_are_over_all_pixels_whatever_the_batches(scenes):
    model, _, task = built()
    model.eval()
    images, masks = scenes.val.tensors
    for part in (slice(0, 1), slice(1, 12)):
        task.eval_step((images[part], masks[part]))
    with torch.no_grad():
        logits = model(images)
    predicted, valid = logits.argmax(dim=1), masks != IGNORED
    shares = []
    for number in range(11):
        ours, theirs = (predicted == number) & valid, masks == number
        if (ours | theirs).any():
            shares.append((ours & theirs).sum() / (ours | theirs).sum())
    values = task.metrics.compute()
    torch.testing.assert_close(values["mean_iou"], torch.stack(shares).mean())
    torch.testing.assert_close(values["loss"], F.cross_entropy(logits, masks, ignore_index=IGNORED))


def test_scenes_of_the_last_evaluation_are_drawn(scenes, tmp_path):
    _, _, task = built()
    assert task.write_artifacts(tmp_path, 1) == []
    task.eval_step(tuple(each[:5] for each in scenes.val.tensors))
    task.eval_step(tuple(each[5:] for each in scenes.val.tensors))
    (path,) = task.write_artifacts(tmp_path, 7)
    assert path == tmp_path / "scenes" / "000007.png"
    assert Image.open(path).size == (5 * (60 + 2) + 2, 3 * (60 + 2) + 2)


def test_predictions_are_a_row_a_scene(scenes):
    _, _, task = built()
    rows = task.predict_step(scenes.val.tensors)
    images, masks = scenes.val.tensors
    one = task.predict_step((images[3:4], masks[3:4]))
    for name in ("loss", "pixel_accuracy"):
        assert rows[name].shape == (12,)
        torch.testing.assert_close(rows[name][3:4], one[name])
