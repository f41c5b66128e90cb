"""Some classes of a data set, and a vision transformer that starts from a finished run's weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optwrap import checkpoint
from optwrap.errors import ConfigError
from optwrap.instantiate import build, locate
from optwrap.vision import ImageData, ImageDataset, SmallViT


def some_classes(
    source: str,
    classes: Sequence[int],
    num_classes: int,
    per_class: int | None = None,
    draw_seed: int = 0,
    **options: Any,
) -> ImageData:
    """Return the images of `classes` of the data that the function `source` loads, labelled 0, 1, ... in order.

    `per_class` training images of each class, drawn by `draw_seed`, are kept (null: all); val and test keep
    theirs whole. `options` are those of `source`.

    Raises:
        ConfigError: the classes are not `num_classes` different ones of the data, or hold too few images.
    """
    if len(classes) != num_classes or len(set(classes)) != num_classes:
        raise ConfigError(f"data.classes={list(classes)} are not data.num_classes={num_classes} different ones.")
    data: ImageData = build({"_target_": locate(source, "data.source"), **options}, "data")
    generator = torch.Generator().manual_seed(draw_seed)
    rows = torch.cat([_draw(data.train.labels, label, per_class, generator) for label in classes])
    return ImageData(
        train=_keep(data.train, rows, classes),
        val=_keep(data.val, torch.isin(data.val.labels, torch.tensor(classes)), classes),
        test=_keep(data.test, torch.isin(data.test.labels, torch.tensor(classes)), classes),
    )


def pretrained_vit(pretrained: str | None, **architecture: Any) -> SmallViT:
    """Return a SmallViT with the weights of the run in the folder `pretrained` (null: fresh ones), head fresh.

    Raises:
        ConfigError: the folder holds no checkpoint, or one of another architecture.
    """
    model = SmallViT(**architecture)
    if pretrained is None:
        return model
    path = Path(pretrained) / "checkpoint.pt"
    if not path.is_file():
        raise ConfigError(
            f"model.pretrained={pretrained}: this folder has no {path.name}. Pretrain first, "
            f"`python train.py experiment=vit_pretrain hydra.run.dir={pretrained}`, or name another run's folder; "
            "model.pretrained=null trains from scratch."
        )
    weights = checkpoint.load(path, torch.device("cpu"))["model"]
    head = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("head.")}
    checkpoint.load_model(model, {"model": weights | head}, path)
    return model


def _draw(labels: Tensor, label: int, count: int | None, generator: torch.Generator) -> Tensor:
    """Return the rows of `count` images with the label (None: all), drawn by `generator`."""
    rows = (labels == label).nonzero().squeeze(1)
    if len(rows) == 0:
        raise ConfigError(f"data.classes: there is no training image of class {label}.")
    if count is not None and not 1 <= count <= len(rows):
        raise ConfigError(f"data.per_class={count}: it is 1 to {len(rows)}, the training images of class {label}.")
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


def _keep(dataset: ImageDataset, rows: Tensor, classes: Sequence[int]) -> ImageDataset:
    """Return the rows of the data set, each label replaced by its place in `classes`."""
    labels = dataset.labels[rows]
    places = (labels[:, None] == torch.tensor(classes)).int().argmax(dim=1)
    return ImageDataset(dataset.images[rows], places, dataset.prepare, dataset.augment)
