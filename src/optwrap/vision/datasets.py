"""Data sets of the config group `data` that need no torchvision: each function returns an ImageData."""

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optwrap.errors import ConfigError
from optwrap.vision.data import Augment, ImageData, Statistics, image_data
from optwrap.vision.folds import fold_rows
from optwrap.vision.preprocessing import RandomFlip, RandomShift

Split = tuple[Tensor, Tensor]


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
    images, labels = _scikit_learns_digits()
    train, val, test = _split_of_digits(labels.numpy(), split_seed)
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


def _scikit_learns_digits() -> Split:
    """Read them from scikit-learn's file, or let it do so: to load the package takes as long as to load torch."""
    package = find_spec("sklearn")
    folders = (package and package.submodule_search_locations) or []
    files = [path for folder in folders if (path := Path(folder, "datasets", "data", "digits.csv.gz")).is_file()]
    if files and (rows := np.loadtxt(files[0], np.int64, delimiter=",")).shape == (1797, 65):
        pixels, labels = rows[:, :-1], rows[:, -1]
    else:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy((pixels * (255 / 16)).round().astype(np.uint8)).view(-1, 1, 8, 8)
    return images, torch.from_numpy(labels.astype(np.int64))


def _split_of_digits(labels: "np.ndarray[Any, Any]", split_seed: int) -> list[Any]:
    """Return the rows of train, val and test as scikit-learn draws them; those of seed 0 stand in a file."""
    if split_seed == 0:
        rows = json.loads(Path(__file__).with_name("digits_split.json").read_text(encoding="utf-8"))
        return [np.array(rows[name]) for name in ("train", "val", "test")]
    from sklearn.model_selection import train_test_split

    train, rest = train_test_split(np.arange(len(labels)), test_size=0.4, stratify=labels, random_state=split_seed)
    return [train, *train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=split_seed)]


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

    def draw(count: int, seed: int) -> Split:
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


_ARTICLES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def mnist(*, channels: int = 1, image_size: int = 28, **options: Any) -> ImageData:
    """MNIST: 60,000 / 10,000 handwritten digits of 28x28 pixels. `options`: `root`; as `with_official_test`."""
    return _of_mnist_kind("MNIST", RandomShift(2), None, channels=channels, image_size=image_size, **options)


def fashion_mnist(*, channels: int = 1, image_size: int = 28, **options: Any) -> ImageData:
    """Fashion-MNIST: 60,000 / 10,000 articles of 28x28 pixels. `options`: as of `mnist`."""
    augmentation = nn.Sequential(RandomShift(2), RandomFlip())
    return _of_mnist_kind(
        "FashionMNIST", augmentation, _ARTICLES, channels=channels, image_size=image_size, **options
    )


def with_official_test(
    train: Split,
    test: Split,
    default_augment: Callable[[Tensor], Tensor] | None,
    names: Sequence[str] | None,
    *,
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
    """Make an ImageData of what comes as images to train on and an official test set.

    `val_size` images, drawn by `split_seed`, are held out of the training set. With a `fold`, 0 to below `folds`,
    val is that fold of the training set in their place. `names` are those of the classes.
    """
    images, labels = train
    if not 0 < val_size < len(images):
        raise ConfigError(f"data.val_size={val_size} must lie between 1 and {len(images) - 1}.")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(split_seed))
    held_out, kept = order[:val_size], order[val_size:]
    if fold is not None:
        kept, held_out = fold_rows(torch.as_tensor(labels), fold, folds, split_seed)
    return image_data(
        {"train": (images[kept], labels[kept]), "val": (images[held_out], labels[held_out]), "test": test},
        num_classes=num_classes,
        channels=channels,
        image_size=image_size,
        augment=augment,
        default_augment=default_augment,
        mean=mean,
        std=std,
        classes=names if names and len(names) == num_classes else None,
    )


def _of_mnist_kind(
    name: str,
    default_augment: Callable[[Tensor], Tensor],
    names: Sequence[str] | None,
    *,
    root: str = "data",
    **options: Any,
) -> ImageData:
    folder = Path(root).expanduser() / name / "raw"
    try:
        splits = _stored(folder, "train"), _stored(folder, "t10k")
    except (OSError, ValueError, RuntimeError):  # RuntimeError: more or fewer pixels than it says
        # It downloads, or says what is wrong; loading it takes longer than most of what a run does at its start.
        from torchvision import datasets as tv

        from optwrap.vision.download import fetch

        splits = fetch(getattr(tv, name), Path(root))
    return with_official_test(*splits, default_augment, names, **options)


def _stored(folder: Path, split: str) -> Split:
    images, labels = _idx(folder / f"{split}-images-idx3-ubyte", 3), _idx(folder / f"{split}-labels-idx1-ubyte", 1)
    return images[:, None], labels.long()


def _idx(path: Path, dims: int) -> Tensor:
    """Return the bytes in a file of MNIST's format (http://yann.lecun.com/exdb/mnist), in its shape."""
    content = np.fromfile(path, np.uint8)
    end = 4 + 4 * dims
    if content[:4].tolist() != [0, 0, 8, dims]:  # 8: bytes
        raise ValueError(f"{path} is no such file")
    return torch.from_numpy(content[end:]).view(content[4:end].view(">u4").tolist())
