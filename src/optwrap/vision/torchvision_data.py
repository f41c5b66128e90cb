"""Data sets of the config group `data` that are torchvision's: each function returns an ImageData."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import datasets as tv

from optwrap.vision.data import ImageData
from optwrap.vision.datasets import with_official_test
from optwrap.vision.download import TorchvisionData, class_names, fetch
from optwrap.vision.preprocessing import RandomFlip, RandomShift


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
    **options: Any,
) -> ImageData:
    """Make an ImageData of a torchvision data set of MNIST's or CIFAR's kind under `root`.

    Files that are missing are downloaded. `options`: those of `with_official_test`.
    """
    train, test = fetch(dataset, Path(root))
    return with_official_test(train, test, default_augment, class_names(dataset, Path(root)), **options)
