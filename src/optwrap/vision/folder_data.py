"""Images in files as data to train on: read, decoded and resized batch by batch."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from optwrap.errors import ConfigError
from optwrap.vision.data import Augment, Statistics, of_channels
from optwrap.vision.files import MODES, read_image
from optwrap.vision.folder_layout import ImageFile, Sharing, find_images, make_splits
from optwrap.vision.preprocessing import (
    PerSample,
    Preprocessing,
    RandomFlip,
    RandomShift,
    channel_counts,
    statistics_of,
)

logger = logging.getLogger(__name__)

MEASURED = 2000
"""Training images, at most, that mean and std are computed from."""


class Decode:
    """Reads a file below `root` as bytes CxHxW, `image_size` to a side.

    Raises:
        ConfigError: it is no image.
    """

    def __init__(self, root: str, channels: int, image_size: int) -> None:
        if channels not in MODES:
            raise ConfigError(f"data.channels={channels}: images in files are read with 1 or 3.")
        if image_size < 1:
            raise ConfigError(f"data.image_size={image_size} must be at least 1.")
        self.root, self.channels, self.image_size = root, channels, image_size

    def __call__(self, name: str) -> Tensor:
        """Return the image in the file of that name."""
        try:
            image = read_image(Path(self.root).expanduser() / name, MODES[self.channels])
        except ConfigError as error:
            raise ConfigError(f"data.root={self.root}: {error} Replace the file, or remove it.") from error
        return v2.functional.resize(image, [self.image_size, self.image_size], antialias=True)


class FolderDataset(Dataset[tuple[Tensor, int]]):
    """The images of some files, each (float32 image CxHxW, int label); `names` are their paths below the root.

    `augment` and `prepare` are as of `ImageDataset`. `cached` has all images, as `decode` makes them.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        classes: Sequence[str],
        decode: Decode,
        prepare: Preprocessing,
        augment: Any = None,
        cached: Tensor | None = None,
    ) -> None:
        self.names = [file.name for file in files]
        self.labels = torch.tensor([file.label for file in files])
        self.classes, self.decode, self.prepare, self.augment = classes, decode, prepare, augment
        self._files, self._cached = files, cached

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The numbers by which images are prepared."""
        return self.prepare.numbers

    def unaugmented(self) -> "FolderDataset":
        """Return the same images without augmentation."""
        return FolderDataset(self._files, self.classes, self.decode, self.prepare, cached=self._cached)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        if not -len(self) <= row < len(self):
            raise IndexError(f"index {row} is out of range for {len(self)} images")
        images, labels = self.collated([row])
        return images[0], int(labels[0])

    def collated(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the images (N, C, H, W) and labels (N) of some rows."""
        if self._cached is None:
            images = torch.stack([self.decode(self.names[row]) for row in rows])
        else:
            images = self._cached[torch.as_tensor(rows)]
        if self.augment is not None:
            images = self.augment(images)
        images = self.prepare(images).clone(memory_format=torch.contiguous_format)
        return images, self.labels[torch.as_tensor(rows)]


@dataclass(frozen=True)
class FolderData:
    """The splits of a folder of images; `fingerprint` is a hash of the files' names, sizes and times."""

    train: FolderDataset
    val: FolderDataset | None
    test: FolderDataset | None
    fingerprint: str


def image_folder(
    root: str | None,
    num_classes: int | None,
    channels: int = 3,
    image_size: int = 64,
    augment: Augment = True,
    cache: bool = False,
    shares: Mapping[str, float] | None = None,
    split_by: str = "seed",
    split_seed: int = 0,
    fold: int | None = None,
    folds: int = 5,
    mean: Statistics = None,
    std: Statistics = None,
) -> FolderData:
    """Return the images of `root`, found as `find_images` does and split as `make_splits`.

    A batch is read when it is asked for, by the run's workers; with `cache` all are read at the start and kept, as
    bytes. Images are resized to `image_size`. By default training images are shifted by up to an eighth, and
    flipped.

    Raises:
        ConfigError: the folder holds other classes than `num_classes`, or what those functions refuse.
    """
    classes, found = find_images(root)
    _check_number(num_classes, classes, root)
    sharing = Sharing({"val": 0.2, "test": 0.2} if shares is None else shares, split_by, split_seed)
    splits = make_splits(found, classes, sharing, fold, folds)
    decode = Decode(str(root), channels, image_size)
    images = {name: _read(decode, files) if cache else None for name, files in splits.items()}
    own_mean, own_std = (mean, std) if mean and std else _measured(decode, splits["train"], images["train"])
    mean, std = of_channels("mean", mean or own_mean, channels), of_channels("std", std or own_std, channels)
    prepare = Preprocessing(mean, std, image_size, resize=True)
    shifted = nn.Sequential(RandomShift(max(1, image_size // 8)), RandomFlip())
    augmentation = PerSample(augment) if callable(augment) else shifted if augment else None
    make = partial(FolderDataset, classes=classes, decode=decode, prepare=prepare)
    val, test = (make(splits[name], cached=images[name]) if splits[name] else None for name in ("val", "test"))
    train = make(splits["train"], augment=augmentation, cached=images["train"])
    return FolderData(train, val, test, _fingerprint(splits))


def _check_number(num_classes: int | None, classes: Sequence[str], root: str | None) -> None:
    if num_classes != len(classes):
        raise ConfigError(
            f"data.num_classes={'null' if num_classes is None else num_classes}: data.root={root} has "
            f"{len(classes)} classes ({', '.join(classes[:5])}{', ...' * (len(classes) > 5)}). "
            f"Set data.num_classes={len(classes)}."
        )


def _read(decode: Decode, files: Sequence[ImageFile]) -> Tensor:
    """Return all images in memory, as bytes."""
    size = decode.image_size
    images = torch.empty(len(files), decode.channels, size, size, dtype=torch.uint8)
    for row, image in enumerate(_decoded(decode, files)):
        images[row] = image
    return images


def _measured(decode: Decode, files: Sequence[ImageFile], images: Tensor | None) -> tuple[Statistics, Statistics]:
    """Return mean and std of the training images, or of some of them, spread over all."""
    if images is not None:
        return statistics_of(channel_counts(images))
    few = files[:: -(-len(files) // MEASURED)]
    if len(few) < len(files):
        logger.info("data.mean and data.std are those of %d of %d training images.", len(few), len(files))
    counts = torch.zeros(decode.channels, 256, dtype=torch.int64)
    for image in _decoded(decode, few):
        counts += channel_counts(image[None])
    return statistics_of(counts)


def _decoded(decode: Decode, files: Sequence[ImageFile]) -> Iterator[Tensor]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        step = 1000  # else all images would wait in memory for whoever asks for them
        for first in range(0, len(files), step):
            yield from threads.map(decode, [file.name for file in files[first : first + step]])


def _fingerprint(splits: Mapping[str, Sequence[ImageFile]]) -> str:
    content = blake2b(digest_size=8)
    for split, files in splits.items():
        for file in files:
            content.update(f"{split} {tuple(file)}\n".encode(errors="surrogateescape"))
    return content.hexdigest()
