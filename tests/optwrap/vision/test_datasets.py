import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets as tv

from optwrap.errors import ConfigError
from optwrap.vision import (
    ImageDataset,
    PerSample,
    RandomFlip,
    RandomShift,
    datasets,
    digits,
    fake,
    fashion_mnist,
    mnist,
)


def test_digits_splits_are_stratified_complete_and_disjoint():
    data = digits()
    sizes = [len(data.train), len(data.val), len(data.test)]
    assert sum(sizes) == 1797
    assert [size / 1797 for size in sizes] == pytest.approx([0.6, 0.2, 0.2], abs=0.01)
    for split in (data.train, data.val, data.test):
        counts = torch.bincount(split.labels, minlength=10) / len(split)
        assert counts == pytest.approx([0.1] * 10, abs=0.02)
    rows = {tuple(image.flatten().tolist()) for image in data.train.images}
    shared = [tuple(image.flatten().tolist()) in rows for image in data.test.images]
    assert sum(shared) == 0


def test_digits_use_the_range_of_a_byte():
    images = digits().train.images
    assert (images.min(), images.max()) == (0, 255)


def test_splits_depend_on_the_split_seed_alone():
    torch.manual_seed(1)
    first = digits().test.images
    torch.manual_seed(2)
    assert torch.equal(digits().test.images, first)
    assert not torch.equal(digits(split_seed=1).test.images, first)


def test_fake_data_has_the_shape_asked_for_and_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    data = fake(num_classes=7, channels=5, image_size=9, size=30, eval_size=4)
    assert torch.equal(torch.get_rng_state(), before)
    images, labels = next(iter(DataLoader(data.train, batch_size=30)))
    assert images.shape == (30, 5, 9, 9)
    assert int(labels.max()) < 7
    assert (len(data.val), len(data.test)) == (4, 4)


def test_fake_data_without_images_names_the_keys():
    with pytest.raises(ConfigError, match=r"data\.size=0"):
        fake(size=0)


def test_a_data_set_without_augmentation_is_the_same_but_for_it():
    data = digits()
    plain = data.train.unaugmented()
    assert (len(plain), plain.augment, plain.preprocessing) == (1078, None, data.test.preprocessing)
    assert torch.equal(plain.collated([3])[0], data.train.prepare(data.train.images[3:4]))


def test_mnist_is_what_torchvision_reads(mnist_root):
    data = mnist(root=str(mnist_root), val_size=15)
    own = tv.MNIST(mnist_root, train=True)
    rows = data.train.images[:, 0, 0, 0].long()  # each has its number as its first pixel
    assert torch.equal(data.train.images[:, 0], own.data[rows])
    assert torch.equal(data.train.labels, own.targets[rows])
    assert torch.equal(data.test.images[:, 0], tv.MNIST(mnist_root, train=False).data)


def test_articles_have_the_names_that_torchvision_has_for_them(write_mnist, tmp_path):
    (write_mnist(tmp_path) / "MNIST").rename(tmp_path / "FashionMNIST")
    assert list(fashion_mnist(root=str(tmp_path), val_size=5).test.classes) == tv.FashionMNIST.classes


@pytest.mark.parametrize("split_seed", [0, 3])
@pytest.mark.parametrize("there", [True, False])
def test_digits_are_what_scikit_learn_has_and_draws(there, split_seed, monkeypatch):
    if not there:  # as of a version that keeps its data elsewhere
        monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    data = digits(split_seed=split_seed)
    pixels, labels = load_digits(return_X_y=True)
    train, rest = train_test_split(np.arange(1797), test_size=0.4, stratify=labels, random_state=split_seed)
    val, test = train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=split_seed)
    for split, rows in ((data.train, train), (data.val, val), (data.test, test)):
        assert torch.equal(split.labels, torch.from_numpy(labels[rows]))
        expected = torch.from_numpy(np.rint(pixels[rows] * 255 / 16)).to(torch.uint8)
        assert torch.equal(split.images, expected.view(-1, 1, 8, 8))


@pytest.mark.slow  # a process of its own, which loads torch
@pytest.mark.parametrize("call", ["digits()", "mnist(root={root!r}, val_size=5)"])
def test_data_is_read_without_the_package_that_it_is_of(call, mnist_root):
    code = f"import sys; from optwrap.vision import digits, mnist; {call.format(root=str(mnist_root))}"
    told = f"{code}; print('torchvision' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("augment", "alone"),
    [
        (None, True),
        (nn.Sequential(RandomShift(1), RandomFlip()), True),
        (PerSample(lambda image: image), False),
        (lambda images: images + np.random.randint(2), False),
    ],
)
def test_images_say_whether_torch_alone_is_random_about_them(augment, alone):
    data = digits().train
    assert ImageDataset(data.images, data.labels, data.prepare, augment).draws_from_torch_alone is alone
    assert not ImageDataset(data.images, data.labels, torch.Tensor.float, augment).draws_from_torch_alone
