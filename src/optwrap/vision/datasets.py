"""The data sets of the config group `data`: each function returns an ImageData."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets as tv
from torchvision.transforms import v2

from optwrap.errors import ConfigError
from optwrap.vision.data import Augment, ImageData, PerSample, RandomShift, Statistics, image_data
from optwrap.vision.download import TorchvisionData, class_names, fetch
from optwrap.vision.folds import fold_rows


def digits(
    num_classes: int = 10,
    channels: int = 1,
    image_size: int = 8,
    augment: Augment = True,
    split_seed: int = 0,
    fold: int | None = None,
    folds: int = 5,
    mean: Statistics = None,
    std: Statistics = None,
) -> ImageData:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels: 60 % train, 20 % val, 20 % test, stratified.

    The splits depend on `split_seed` alone, so that runs with other seeds see the same test set. With a `fold`, 0
    to below `folds`, val is that fold of what is not test, and train the rest of it.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy((bunch.images * (255 / 16)).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, held_out = train_test_split(
        np.arange(len(labels)), test_size=0.4, stratify=bunch.target, random_state=split_seed
    )
    val, test = train_test_split(held_out, test_size=0.5, stratify=bunch.target[held_out], random_state=split_seed)
    if fold is not None:
        rest = np.concatenate([train, val])
        train, val = (rest[rows] for rows in fold_rows(labels[rest], fold, folds, split_seed))
    return image_data(
        {name: (images[rows], labels[rows]) for name, rows in (("train", train), ("val", val), ("test", test))},
        num_classes=num_classes,
        channels=channels,
        image_size=image_size,
        augment=augment,
        default_augment=RandomShift(1),
        mean=mean,
        std=std,
    )


def fake(
    num_classes: int = 10,
    channels: int = 3,
    image_size: int = 32,
    size: int = 256,
    eval_size: int = 64,
    augment: Augment = False,
    mean: Statistics = None,
    std: Statistics = None,
) -> ImageData:
    """Random pixels and labels, for smoke tests of any shape: `size` to train on, `eval_size` to val and test."""
    if min(num_classes, channels, image_size, size, eval_size) < 1:
        raise ConfigError(
            f"data.num_classes={num_classes}, data.channels={channels}, data.image_size={image_size}, "
            f"data.size={size} and data.eval_size={eval_size} must all be at least 1."
        )

    def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shape = (count, channels, image_size, image_size)
        pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        return pixels, torch.randint(num_classes, (count,), generator=generator)

    splits = {
        "train": draw(size, 0),
        "val": draw(eval_size, 1),
        "test": draw(eval_size, 2),
    }
    return image_data(
        splits,
        num_classes=num_classes,
        channels=channels,
        image_size=image_size,
        augment=augment,
        mean=mean,
        std=std,
    )


def mnist(*, channels: int = 1, image_size: int = 28, **options: Any) -> ImageData:
    """MNIST: 60,000 / 10,000 handwritten digits of 28x28 pixels. `options`: those of `from_torchvision`."""
    augmentation = RandomShift(2)
    return from_torchvision(tv.MNIST, augmentation, channels=channels, image_size=image_size, **options)


def fashion_mnist(*, channels: int = 1, image_size: int = 28, **options: Any) -> ImageData:
    """Fashion-MNIST: 60,000 / 10,000 articles of 28x28 pixels. `options`: those of `from_torchvision`."""
    augmentation = v2.Compose([RandomShift(2), PerSample(v2.RandomHorizontalFlip())])
    return from_torchvision(tv.FashionMNIST, augmentation, channels=channels, image_size=image_size, **options)


def cifar10(**options: Any) -> ImageData:
    """CIFAR-10: 50,000 / 10,000 colour images of 32x32 pixels. `options`: those of `from_torchvision`."""
    augmentation = v2.Compose([RandomShift(4), PerSample(v2.RandomHorizontalFlip())])
    return from_torchvision(tv.CIFAR10, augmentation, **options)


def cifar100(*, num_classes: int = 100, **options: Any) -> ImageData:
    """CIFAR-100: CIFAR-10's sizes with 100 classes. `options`: those of `from_torchvision`."""
    augmentation = v2.Compose([RandomShift(4), PerSample(v2.RandomHorizontalFlip())])
    return from_torchvision(tv.CIFAR100, augmentation, num_classes=num_classes, **options)


def from_torchvision(
    dataset: TorchvisionData,
    default_augment: Callable[[Tensor], Tensor] | None,
    *,
    root: str = "data",
    num_classes: int = 10,
    channels: int = 3,
    image_size: int = 32,
    augment: Augment = True,
    val_size: int = 5000,
    split_seed: int = 0,
    fold: int | None = None,
    folds: int = 5,
    mean: Statistics = None,
    std: Statistics = None,
) -> ImageData:
    """Make an ImageData of a torchvision data set of MNIST's or CIFAR's kind under `root`.

    `val_size` images, drawn by `split_seed`, are held out of the training set; test is the official test set.
    With a `fold`, 0 to below `folds`, val is that fold of the training set in their place. Files that are missing
    are downloaded.
    """
    (images, labels), test = fetch(dataset, Path(root))
    if not 0 < val_size < len(images):
        raise ConfigError(f"data.val_size={val_size} must lie between 1 and {len(images) - 1}.")
    names = class_names(dataset, Path(root))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(split_seed))
    val, train = order[:val_size], order[val_size:]
    if fold is not None:
        train, val = fold_rows(torch.as_tensor(labels), fold, folds, split_seed)
    return image_data(
        {"train": (images[train], labels[train]), "val": (images[val], labels[val]), "test": test},
        num_classes=num_classes,
        channels=channels,
        image_size=image_size,
        augment=augment,
        default_augment=default_augment,
        mean=mean,
        std=std,
        classes=names if names and len(names) == num_classes else None,
    )
