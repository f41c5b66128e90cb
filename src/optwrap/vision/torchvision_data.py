"""Data sets of the config group `data` that are torchvision's: each function returns an ImageData."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import datasets as tv

from optwrap.errors import ConfigError
from optwrap.vision.data import Augment, ImageData, Statistics, image_data
from optwrap.vision.download import TorchvisionData, class_names, fetch
from optwrap.vision.folds import fold_rows
from optwrap.vision.preprocessing import RandomFlip, RandomShift


def mnist(*, channels: int = 1, image_size: int = 28, **options: Any) -> ImageData:
    """MNIST: 60,000 / 10,000 handwritten digits of 28x28 pixels. `options`: those of `from_torchvision`."""
    augmentation = RandomShift(2)
    return from_torchvision(tv.MNIST, augmentation, channels=channels, image_size=image_size, **options)


def fashion_mnist(*, channels: int = 1, image_size: int = 28, **options: Any) -> ImageData:
    """Fashion-MNIST: 60,000 / 10,000 articles of 28x28 pixels. `options`: those of `from_torchvision`."""
    augmentation = nn.Sequential(RandomShift(2), RandomFlip())
    return from_torchvision(tv.FashionMNIST, augmentation, channels=channels, image_size=image_size, **options)


def cifar10(**options: Any) -> ImageData:
    """CIFAR-10: 50,000 / 10,000 colour images of 32x32 pixels. `options`: those of `from_torchvision`."""
    augmentation = nn.Sequential(RandomShift(4), RandomFlip())
    return from_torchvision(tv.CIFAR10, augmentation, **options)


def cifar100(*, num_classes: int = 100, **options: Any) -> ImageData:
    """CIFAR-100: CIFAR-10's sizes with 100 classes. `options`: those of `from_torchvision`."""
    augmentation = nn.Sequential(RandomShift(4), RandomFlip())
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
