"""What stands between the bytes of images and a model: augmentation, and what can be done again elsewhere."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Preprocessing:
    """Makes of a batch of uint8 images NxCxHxW what a model is fed: on the scale 0 to 1, less mean, over std.

    `resize` puts them to `image_size` before. `numbers` are what was told, as plain values.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], image_size: int, resize: bool) -> None:
        self._resize = _resizing(image_size) if resize else None
        moments = torch.tensor([list(mean), list(std)], dtype=torch.float32).view(2, -1, 1, 1)
        self._moments = {torch.device("cpu"): moments}
        self.numbers: dict[str, Any] = {
            "layout": "NCHW",
            "channels": len(mean),
            "image_size": image_size,
            "resize": "bilinear, antialiased, on bytes" if resize else None,
            "scale": 1 / 255,
            "mean": list(mean),
            "std": list(std),
        }

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images as float32: what v2.ToDtype and v2.Normalize give, in a third of their time."""
        if self._resize is not None:
            images = self._resize(images)
        if images.device not in self._moments:  # moved once, since each move waits for the device
            self._moments[images.device] = self._moments[torch.device("cpu")].to(images.device)
        mean, std = self._moments[images.device]
        return images.to(torch.float32).mul_(1 / 255).sub_(mean).div_(std)


def _resizing(image_size: int) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2  # here, since loading it takes a while and small images stay as they are

    resize: Callable[[Tensor], Tensor] = v2.Resize([image_size, image_size], antialias=True)
    return resize


def channel_counts(images: Tensor) -> Tensor:
    """Return how often each channel of uint8 images NxCxHxW has each of the 256 values, as CxV."""
    flat = images.transpose(0, 1).flatten(1)
    return torch.stack([torch.bincount(channel, minlength=256) for channel in flat])


def statistics_of(counts: Tensor) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of each channel, on the scale 0 to 1, from `channel_counts`.

    A histogram is exact and needs no float copy of the images.

    >>> statistics_of(channel_counts(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)))
    ([0.5], [0.5])
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in counts:
        share = channel.double() / channel.sum()
        mean = (share * values).sum()
        means.append(mean.item())
        stds.append((share * (values - mean) ** 2).sum().sqrt().clamp(min=1e-3).item())
    return means, stds


class RandomShift(nn.Module):
    """Shift each image of a batch by its own random offset of up to `pixels` a side, filling with zeros.

    The batched equal of `v2.RandomCrop(size, padding=pixels)`, which draws one offset for a whole batch.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, images: Tensor) -> Tensor:
        """Return the shifted copy of a batch NxCxHxW."""
        count, _, height, width = images.shape
        # Drawn on the CPU, whose generator a batch is seeded by, wherever the images are.
        top, left = torch.randint(0, 2 * self.pixels + 1, (2, count)).to(images.device)
        padded = torch.nn.functional.pad(images, [self.pixels] * 4)
        # At each offset a view: N x C x top x left x H x W.
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(count, device=images.device), :, top, left]


class RandomFlip(nn.Module):
    """Mirror each image of a batch, left to right, with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, images: Tensor) -> Tensor:
        """Return the batch NxCxHxW, some of it mirrored."""
        mirrored = (torch.rand(len(images)) < self.p).to(images.device)
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def draws_from_torch_alone(augment: Any) -> bool:
    """Whether an augmentation is known to draw from no other generator than torch's."""
    modules = augment.modules() if isinstance(augment, nn.Module) else [augment]
    return augment is None or all(type(each) in (RandomShift, RandomFlip, nn.Sequential) for each in modules)


class PerSample(nn.Module):
    """Apply a transform to each image of a batch by itself, so that each draws its own random numbers."""

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.each = transform

    def forward(self, images: Tensor) -> Tensor:
        """Return the batch of the transformed images."""
        return torch.stack([self.each(image) for image in images])
