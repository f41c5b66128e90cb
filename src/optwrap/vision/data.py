"""Images in memory as bytes; augmented, scaled and normalised a batch at a time."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from optwrap.errors import ConfigError
from optwrap.vision.preprocessing import (
    PerSample,
    Preprocessing,
    channel_counts,
    draws_from_torch_alone,
    statistics_of,
)

Augment = bool | Callable[[Tensor], Tensor]
Statistics = Sequence[float] | None


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """A map-style dataset of (float32 image CxHxW, int label) over uint8 images NxCxHxW in memory.

    `augment` and `prepare` each take and return a batch NxCxHxW: `augment` sees bytes at the images' own
    size, `prepare` makes of them what the model is fed. `classes` are the names of the labels.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        prepare: Callable[[Tensor], Tensor],
        augment: Callable[[Tensor], Tensor] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or len(images) != len(labels):
            shapes = f"{images.dtype} {tuple(images.shape)} with {tuple(labels.shape)} labels"
            raise ValueError(f"needs uint8 images of shape (N, C, H, W) and N labels; got {shapes}")
        self.images = images
        self.labels = labels
        self.prepare = prepare
        self.augment = augment
        self.classes = classes

    @property
    def preprocessing(self) -> Mapping[str, Any] | None:
        """The numbers by which `prepare` works, where it says them."""
        return getattr(self.prepare, "numbers", None)

    @property
    def draws_from_torch_alone(self) -> bool:
        """Whether what is random about its images comes from torch's generator, and no other."""
        return type(self.prepare) is Preprocessing and draws_from_torch_alone(self.augment)

    def unaugmented(self) -> "ImageDataset":
        """Return the same images without augmentation."""
        return ImageDataset(self.images, self.labels, self.prepare, classes=self.classes)

    @property
    def nbytes(self) -> int:
        """How many bytes its images and labels take."""
        return self.images.nbytes + self.labels.nbytes

    def to(self, device: torch.device) -> "ImageDataset":
        """Return the same images on the device, where batches are then made; with the same random numbers."""
        images, labels = self.images.to(device), self.labels.to(device)
        return ImageDataset(images, labels, self.prepare, self.augment, self.classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return the samples at `indices`, as DataLoader asks for them, made as one batch."""
        images, labels = self.collated(indices)
        return list(zip(images, labels.tolist(), strict=True))

    def collated(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the images (N, C, H, W) and labels (N) at `indices`: some twenty times faster than one by one."""
        where = torch.as_tensor(indices, device=self.images.device)
        images = self.images[where]
        if self.augment is not None:
            images = self.augment(images)
        return self.prepare(images).contiguous(), self.labels[where].long()


@dataclass(frozen=True)
class ImageData:
    """What a data function returns: three datasets, ready for a DataLoader."""

    train: ImageDataset
    val: ImageDataset
    test: ImageDataset

    @property
    def fingerprint(self) -> str:
        """A hash of all images and labels."""
        content = hashlib.blake2b(digest_size=8)
        for split in (self.train, self.val, self.test):
            for tensor in (split.images, split.labels):
                content.update(str(tuple(tensor.shape)).encode())
                array: Any = tensor.contiguous().numpy()
                content.update(array)
        return content.hexdigest()


def image_data(
    splits: dict[str, tuple[Tensor, Tensor]],
    *,
    num_classes: int,
    channels: int,
    image_size: int,
    augment: Augment,
    default_augment: Callable[[Tensor], Tensor] | None = None,
    mean: Statistics = None,
    std: Statistics = None,
    classes: Sequence[str] | None = None,
) -> ImageData:
    """Make an ImageData of uint8 images and labels per split, after checking them against the config.

    Images are normalised by `mean` and `std` of each channel, None for those of the training split, and resized in
    each batch where `image_size` is not their own: 50,000 CIFAR images of 224 pixels would take 7 GB in memory.
    `augment` is true (`default_augment`), false (none), or a transform of one uint8 image. `classes` are the names
    of the classes.

    Raises:
        ConfigError: a number does not fit the images.
    """
    splits = {name: (_with_channels(images, channels), labels) for name, (images, labels) in splits.items()}
    for name, (_, labels) in splits.items():
        _check_labels(name, labels, num_classes)
    images, _ = splits["train"]
    own_mean, own_std = (None, None) if mean and std else statistics_of(channel_counts(images))
    mean, std = of_channels("mean", mean or own_mean, channels), of_channels("std", std or own_std, channels)
    if image_size < 1:
        raise ConfigError(f"data.image_size={image_size} must be at least 1.")
    resize = tuple(images.shape[2:]) != (image_size, image_size)
    prepare = Preprocessing(mean, std, image_size, resize)
    augmentation = PerSample(augment) if callable(augment) else default_augment if augment else None
    return ImageData(
        train=ImageDataset(*splits["train"], prepare, augmentation, classes),
        val=ImageDataset(*splits["val"], prepare, None, classes),
        test=ImageDataset(*splits["test"], prepare, None, classes),
    )


def of_channels(key: str, values: Statistics, channels: int) -> list[float]:
    """Return `data.mean` or `data.std`, `key`, as a list of a number for each channel.

    Raises:
        ConfigError: they are not as many as channels, or a std is not positive.
    """
    values = list(values or ())
    if len(values) != channels or (key == "std" and min(values) <= 0):
        kind = "positive number" if key == "std" else "number"
        raise ConfigError(
            f"data.{key}={values}: it is a {kind} for each of data.channels={channels}, or null for those of the "
            "training images."
        )
    return values


def _with_channels(images: Tensor, channels: int) -> Tensor:
    own = images.shape[1]
    if own == channels:
        return images.contiguous()
    from torchvision.transforms import v2  # here, since most images are as the model takes them

    if (own, channels) == (1, 3):
        return v2.functional.grayscale_to_rgb(images).contiguous()
    if (own, channels) == (3, 1):
        return v2.functional.rgb_to_grayscale(images).contiguous()
    raise ConfigError(f"data.channels={channels}: these images have {own} channel(s); choose 1 or 3.")


def _check_labels(split: str, labels: Tensor, num_classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ConfigError(
            f"data.num_classes={num_classes} does not fit the labels of the {split} split, which run from "
            f"{low} to {high}: set data.num_classes={high + 1}."
        )
