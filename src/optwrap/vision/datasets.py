"""Data sets of the config group `data` that need no download: each function returns an ImageData."""

import numpy as np
import torch
from torch import Tensor

from optwrap.errors import ConfigError
from optwrap.vision.data import Augment, ImageData, Statistics, image_data
from optwrap.vision.folds import fold_rows
from optwrap.vision.preprocessing import RandomShift


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
