"""Digits on canvases, each pixel with a class, and a task whose micro-batches have different numbers of pixels."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassJaccardIndex
from torchvision.utils import make_grid, save_image

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper
from optwrap.vision import digits

IGNORED = 255
"""Marks pixels of a mask that have no class: they count in no loss and no metric."""
BACKGROUND, INK = 0, 100  # a pixel of a digit is ink from this brightness on; below, it is a border
MOST_DIGITS = 6
SHOWN = 8


def digit_scenes(
    size: int = 2000, eval_size: int = 400, image_size: int = 20, split_seed: int = 0
) -> SimpleNamespace:
    """Return scenes of 1 to 6 of scikit-learn's digits with their masks: images (1, S, S), masks (S, S).

    Classes are background and, from 1 on, the digits; their soft borders are ignored. Of a training scene only a
    rectangle of any size is labelled. Each split has scenes, and digits, of its own; `split_seed` decides.

    Raises:
        ConfigError: a number is too small.
    """
    if min(size, eval_size) < 1 or image_size < 12 or image_size % 4:
        raise ConfigError(
            f"data.size={size}, data.eval_size={eval_size}, data.image_size={image_size}: the first two are at "
            "least 1, the last a multiple of 4 from 12 up."
        )
    source = digits(augment=False, split_seed=split_seed)
    generator = torch.Generator().manual_seed(split_seed)
    scenes = {"train": size, "val": eval_size, "test": eval_size}
    splits = {}
    for name, count in scenes.items():
        of = getattr(source, name)
        images, masks = scenes_of(of.images[:, 0], of.labels, count, image_size, generator)
        if name == "train":
            masks = masks.where(labelled(count, image_size, generator), torch.tensor(IGNORED))
        splits[name] = TensorDataset(images[:, None], masks)
    return SimpleNamespace(**splits, classes=["background", *map(str, range(10))])


def scenes_of(
    images: Tensor, labels: Tensor, count: int, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return `count` scenes (N, S, S) between 0 and 1 of images of digits, bytes (M, H, W), and their masks."""
    canvas = torch.randint(0, 64, (count, size, size), generator=generator)  # noise
    masks = torch.full((count, size, size), BACKGROUND)
    digits_in = torch.randint(1, MOST_DIGITS + 1, (count, 1, 1), generator=generator)
    side = images.shape[1]
    scene = torch.arange(count)[:, None, None]
    for number in range(MOST_DIGITS):
        row = torch.randint(len(images), (count,), generator=generator)
        top, left = torch.randint(0, size - side + 1, (2, count, 1, 1), generator=generator)
        where = (scene, top + torch.arange(side)[:, None], left + torch.arange(side))
        digit, label = images[row].long(), labels[row, None, None] + 1
        pasted = (digit > 0) & (number < digits_in)
        canvas[where] = canvas[where].where(~pasted, digit)
        masks[where] = masks[where].where(~pasted, label.where(digit >= INK, torch.tensor(IGNORED)))
    return canvas.float() / 255, masks


def labelled(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return a rectangle for each scene, as booleans (N, S, S): from 4 pixels a side to the whole."""
    sides = torch.randint(4, size + 1, (2, count), generator=generator)
    start = (torch.rand(2, count, generator=generator) * (size - sides + 1)).long()
    place = torch.arange(size)
    rows, columns = (place >= start[..., None]) & (place < (start + sides)[..., None])
    return rows[:, :, None] & columns[:, None, :]


class EncoderDecoder(nn.Module):
    """Two steps down, two up, each with what was there before it: logits (N, num_classes, H, W).

    It has group norms: what a sample comes to depends on no other of its micro-batch.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 16) -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise ConfigError(f"model.width={width}: the group norms need a multiple of 4.")
        self.stem = block(channels, width)
        self.down = block(width, 2 * width, stride=2)
        self.bottom = block(2 * width, 4 * width, stride=2)
        self.up = block(6 * width, 2 * width)
        self.top = block(3 * width, width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        fine = self.stem(images)
        middle = self.down(fine)
        coarse = F.interpolate(self.bottom(middle), scale_factor=2)
        coarse = F.interpolate(self.up(torch.cat([coarse, middle], dim=1)), scale_factor=2)
        return self.head(self.top(torch.cat([coarse, fine], dim=1)))


def block(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """Return two convolutions of 3x3 pixels, the first with the stride."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.GroupNorm(4, width),
        nn.ReLU(),
    )


class SegmentationTask:
    """Cross entropy over the pixels that have a class, weighted by their number; judged by the mean IoU.

    `weighted` false leaves the weight out: each micro-batch then counts as much as any other, whatever it holds.
    """

    unit = "pixels"
    objective = "val/mean_iou"

    def __init__(self, model: nn.Module, num_classes: int, weighted: bool = True) -> None:
        self.model, self.num_classes, self.weighted = model, num_classes, weighted
        self.metrics = MetricCollection(
            {
                "loss": MeanMetric(nan_strategy="disable"),
                "mean_iou": MulticlassJaccardIndex(num_classes, ignore_index=IGNORED, validate_args=False),
            },
            compute_groups=False,
        )
        self.shown: tuple[Tensor, ...] = ()

    def train_step(self, batch: Sequence[Tensor], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Do one micro-batch; one without any labelled pixel changes nothing."""
        images, masks = batch
        pixels = (masks != IGNORED).sum()
        with optim_wrapper.optim_context(self.model):
            losses = pixel_losses(self.model(images), masks)
            loss = losses.sum() / pixels.clamp(min=1)
        optim_wrapper.update_params(loss, weight=pixels if self.weighted else None)
        return {"loss": loss.detach(), "pixels": pixels}

    @torch.no_grad()
    def eval_step(self, batch: Sequence[Tensor]) -> None:
        """Add one batch to `metrics`: both are over all pixels of an evaluation, whatever its batches."""
        images, masks = batch
        logits = self.model(images)
        if not self.metrics["mean_iou"].update_called:  # the first batch
            self.shown = tuple(each[:SHOWN] for each in (images, masks, logits.argmax(dim=1)))
        # No weight: a MeanMetric that lets NaN through takes none.
        self.metrics["loss"].update(pixel_losses(logits, masks)[masks != IGNORED])
        self.metrics["mean_iou"].update(logits.argmax(dim=1), masks)

    @torch.no_grad()
    def predict_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return of each scene its loss, and the share of its labelled pixels that are right."""
        images, masks = batch
        logits, valid = self.model(images), masks != IGNORED
        pixels = valid.sum(dim=(1, 2)).clamp(min=1)
        right = (valid & (logits.argmax(dim=1) == masks)).sum(dim=(1, 2)) / pixels
        return {"loss": pixel_losses(logits, masks).sum(dim=(1, 2)) / pixels, "pixel_accuracy": right}

    def write_artifacts(self, folder: Path, update: int) -> list[Path]:
        """Draw the first scenes of the last evaluation: image, mask and prediction below each other."""
        if not self.shown:
            return []
        images, masks, predicted = (each.cpu() for each in self.shown)
        colours = torch.rand(256, 3, generator=torch.Generator().manual_seed(3))
        colours[BACKGROUND], colours[IGNORED] = 0, 0.5
        rows = [images.expand(-1, 3, -1, -1), *(colours[each].permute(0, 3, 1, 2) for each in (masks, predicted))]
        grid = make_grid(F.interpolate(torch.cat(rows), scale_factor=3), nrow=len(images))
        (folder / "scenes").mkdir(exist_ok=True)
        path = folder / "scenes" / f"{update:06d}.png"
        save_image(grid, path)
        return [path]


def pixel_losses(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the cross entropy of each pixel, 0 where it is ignored."""
    return F.cross_entropy(logits.float(), masks, ignore_index=IGNORED, reduction="none")
