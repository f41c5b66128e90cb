"""Preprocessing gives what torchvision's transforms give, to the bit; augmentation is of each image by itself."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms import v2

from optwrap.vision import PerSample, RandomFlip, RandomShift
from optwrap.vision.preprocessing import Preprocessing

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]


@pytest.mark.parametrize("size", [8, 12])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_torchvision_s_own_chain_to_the_bit(size, layout):
    images = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8).to(memory_format=layout)
    before = images.clone()
    steps = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    chain = v2.Compose([v2.Resize([size, size], antialias=True), *steps])
    made = Preprocessing(MEAN, STD, size, resize=size != 8)(images)
    assert torch.equal(made, chain(images))
    assert torch.equal(images, before)
    assert made.dtype == torch.float32


@given(pixels=st.integers(0, 3), channels=st.integers(1, 3), height=st.integers(3, 7), seed=st.integers(0, 99))
def test_random_shift_gives_each_image_a_crop_of_its_padded_self(pixels, channels, height, seed):
    torch.manual_seed(seed)
    images = torch.randint(1, 256, (5, channels, height, height + 1), dtype=torch.uint8)
    shifted = RandomShift(pixels)(images)
    assert shifted.shape == images.shape
    padded = torch.nn.functional.pad(images, [pixels] * 4)
    offsets = range(2 * pixels + 1)
    for image, source in zip(shifted, padded, strict=True):
        crops = [source[:, y : y + height, x : x + height + 1] for y in offsets for x in offsets]
        assert any(torch.equal(image, crop) for crop in crops)


def test_random_shift_draws_every_offset_and_one_for_each_image():
    torch.manual_seed(0)
    point = torch.zeros(400, 1, 5, 5, dtype=torch.uint8)
    point[:, :, 2, 2] = 1
    where = {tuple(index[1:].tolist()) for index in RandomShift(1)(point)[:, 0].nonzero()}
    assert where == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}


def test_per_sample_draws_for_each_image():
    torch.manual_seed(0)
    images = torch.arange(3, dtype=torch.uint8).expand(64, 1, 1, 3)
    flipped = PerSample(v2.RandomHorizontalFlip())(images)[:, 0, 0, 0]
    assert 10 < (flipped == 2).sum() < 54


@given(p=st.sampled_from([0.0, 0.3, 1.0]), channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_random_flip_mirrors_whole_images_or_leaves_them(p, channels, seed):
    torch.manual_seed(seed)
    images = torch.randint(256, (6, channels, 4, 5), dtype=torch.uint8)
    flipped = RandomFlip(p)(images)
    assert flipped.dtype == torch.uint8
    for image, before in zip(flipped, images, strict=True):
        same, mirrored = torch.equal(image, before), torch.equal(image, before.flip(2))
        assert same or mirrored
        assert {0.0: same, 1.0: mirrored}.get(p, True)


def test_random_flip_mirrors_about_as_many_as_it_was_told():
    torch.manual_seed(0)
    images = torch.arange(3, dtype=torch.uint8).expand(1000, 1, 1, 3)
    assert 440 < (RandomFlip()(images)[:, 0, 0, 0] == 2).sum() < 560
    assert 60 < (RandomFlip(0.1)(images)[:, 0, 0, 0] == 2).sum() < 140


def test_batches_lie_in_memory_in_their_plain_order():
    images = torch.randint(256, (4, 1, 6, 6), dtype=torch.uint8)
    assert nn.Sequential(RandomShift(2), RandomFlip())(images).stride() == images.stride()
