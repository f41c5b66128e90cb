"""What every program of the comparison trains: the same model, samples, batch size and number of updates.

Nothing here loads optwrap, so that each program starts with what it needs itself.
"""

import gzip
import math
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

LENGTH, VOCABULARY = 128, 257


@dataclass(frozen=True)
class Work:
    """A job: `items` are what a sample counts for, images or tokens; `overrides` make `train.py` do it."""

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[str], tuple[TensorDataset, TensorDataset]]
    batch_size: int
    updates: int
    evaluations: int
    overrides: tuple[str, ...]
    items: int = 1
    lr: float = 0.05

    @property
    def per_epoch(self) -> int:
        """Updates between two evaluations."""
        return self.updates // self.evaluations


def loss_of(model: nn.Module, batch: Any) -> Tensor:
    """Return the mean cross entropy of a batch, of images or of tokens."""
    inputs, targets = batch
    return F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())


def loaders(work: Work, folder: str) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return batches to train on, an epoch's number of them, and those to evaluate on."""
    train, val = work.data(folder)
    train = TensorDataset(*(tensor[: work.per_epoch * work.batch_size] for tensor in train.tensors))
    options = {"batch_size": work.batch_size}
    return DataLoader(train, shuffle=True, drop_last=True, **options), DataLoader(val, **options)


def optimizer_of(model: nn.Module, work: Work) -> torch.optim.Optimizer:
    """Return SGD as `conf/optim_wrapper/sgd.yaml` has it."""
    return torch.optim.SGD(model.parameters(), work.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)


def schedule_of(optimizer: torch.optim.Optimizer, work: Work) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a warm-up over a tenth of the updates and a half cosine after it."""
    rise = work.updates // 10

    def factor(update: int) -> float:
        if update < rise:
            return (update + 1) / (rise + 1)
        return 0.5 * (1 + math.cos(math.pi * (update - rise) / (work.updates - rise)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class SmallCNN(nn.Module):
    """The model of `conf/model/small_cnn.yaml`."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [(1, width, 2), (width, 2 * width, 2), (2 * width, 2 * width, 1), (2 * width, 4 * width, 2)]
        blocks = [
            [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            for inputs, outputs, stride in sizes
        ]
        self.body = nn.Sequential(*(layer for block in blocks for layer in block))
        self.head = nn.Linear(4 * width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 10)."""
        return self.head(self.body(images).mean(dim=(2, 3)))


def small_gpt() -> nn.Module:
    """Return the decoder of `conf/model/gpt.yaml`, of another size: every program imports it."""
    from optwrap.text.gpt import GPT

    return GPT(VOCABULARY, LENGTH, width=128, depth=4, heads=4)


def digits(folder: str) -> tuple[TensorDataset, TensorDataset]:
    """Return scikit-learn's digits."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images.reshape(-1, 1, 8, 8) / 16, labels, test_size=0.2, random_state=0)
    train, val, train_labels, val_labels = (torch.from_numpy(part) for part in parts)
    mean, std = train.mean(), train.std()
    return (
        TensorDataset(((train - mean) / std).float(), train_labels),
        TensorDataset(((val - mean) / std).float(), val_labels),
    )


def mnist(folder: str) -> tuple[TensorDataset, TensorDataset]:
    """Return MNIST from torchvision's files below `folder`, in memory and normalised once."""

    def read(kind: str, ending: str, offset: int) -> Tensor:
        path = Path(folder) / "MNIST" / "raw" / f"{kind}-{ending}"
        content = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=offset).copy())

    images = (read("train", "images-idx3-ubyte", 16).view(-1, 1, 28, 28).float() / 255 - 0.1307) / 0.3081
    labels = read("train", "labels-idx1-ubyte", 8).long()
    return TensorDataset(images[:-5000], labels[:-5000]), TensorDataset(images[-500:], labels[-500:])


def stdlib(folder: str) -> tuple[TensorDataset, TensorDataset]:
    """Return windows of the bytes of Python's own sources."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    content = np.frombuffer(b"".join(file.read_bytes() for file in files), np.uint8)
    count = len(content) // (LENGTH + 1)
    rows = torch.from_numpy(content[: count * (LENGTH + 1)].astype(np.int64)).view(count, LENGTH + 1)
    train, val = rows[:-64], rows[-64:]
    return TensorDataset(train[:, :-1], train[:, 1:]), TensorDataset(val[:, :-1], val[:, 1:])


_GPT = ("data=stdlib", "model=gpt", "task=language_model", "task.samples=0")
WORKS = {
    work.name: work
    for work in (
        Work("digits", SmallCNN, digits, 64, 400, 20, ("data.augment=false", "max_updates=400", "eval_every=20")),
        Work(
            "mnist", SmallCNN, mnist, 64, 400, 1,
            ("data=mnist", "data.augment=false", "data.val_size=500", "max_updates=400", "eval_every=400"),
        ),
        Work(
            "gpt", small_gpt, stdlib, 16, 80, 1,
            (*_GPT, f"data.length={LENGTH}", "model.width=128", "model.depth=4", "model.heads=4", "batch_size=16",
             "max_updates=80", "eval_every=80", "data.val_share=0.004", "data.test_share=0.004"),
            items=LENGTH,
        ),
    )
}  # fmt: skip
