"""torchvision's data sets, read where they lie and downloaded where they don't."""

import logging
import os
import pickle
import shutil
import socket
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets as tv
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor
from torchvision.datasets.utils import check_integrity

from optwrap.errors import ConfigError, did_you_mean

logger = logging.getLogger(__name__)

TorchvisionData = type[tv.MNIST] | type[tv.CIFAR10]
Split = tuple[Tensor, Tensor]

# What torchvision raises for files that are absent, cut short or not what they should be.
UNREADABLE = (RuntimeError, ValueError, EOFError, OSError, AssertionError, pickle.UnpicklingError)
STALLED_AFTER = 30.0  # seconds without an answer


def fetch(dataset: TorchvisionData, root: Path) -> tuple[Split, Split]:
    """Return the official train and test splits as uint8 images NxCxHxW and int64 labels.

    Downloads what is missing into `root`, which may otherwise be read-only. Raises ConfigError, naming
    data.root, where the files are neither there nor to be had.
    """
    root = root.expanduser().absolute()
    try:
        return _read(dataset, root)
    except UNREADABLE:
        _check_place(root)
        logger.info("data.root=%s: %s; downloading %s there", root, _state(dataset, root), dataset.__name__)
    try:
        _download(dataset, root)
        return _read(dataset, root)
    except UNREADABLE as error:
        raise ConfigError(_explain(dataset, root, error)) from error


def class_names(dataset: TorchvisionData, root: Path) -> list[str] | None:
    """Return the names of the classes of what `fetch` has read; None where they are only numbers.

    CIFAR's lie in a file of its own, which is a pickle that torchvision has a checksum for.
    """
    if not issubclass(dataset, tv.CIFAR10):
        names = list(dataset.classes)
        return None if " - " in names[0] else names  # "0 - zero"
    meta = root.expanduser().absolute() / dataset.base_folder / dataset.meta["filename"]
    if not check_integrity(str(meta), dataset.meta["md5"]):
        return None
    with meta.open("rb") as file:
        return list(pickle.load(file, encoding="latin1")[dataset.meta["key"]])


def _check_place(root: Path) -> None:
    """Refuse to make a chain of folders for what may be a slip."""
    if not root.parent.is_dir():
        raise ConfigError(
            f"data.root={root}: neither this folder nor {root.parent} is there. Give the folder of the data; "
            "a new one is made where the one above it is there."
        )
    beside = [each.name for each in root.parent.iterdir() if each.is_dir()]
    if not root.exists() and (hint := did_you_mean(root.name, beside)):
        raise ConfigError(f"data.root={root}: there is no such folder.{hint} For a new one, make it first.")


def _read(dataset: TorchvisionData, root: Path) -> tuple[Split, Split]:
    return _split(dataset(root, train=True)), _split(dataset(root, train=False))


def _split(source: tv.MNIST | tv.CIFAR10) -> Split:
    pixels = torch.as_tensor(source.data)
    images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return images.contiguous(), torch.as_tensor(np.asarray(source.targets), dtype=torch.int64)


def _download(dataset: TorchvisionData, root: Path) -> None:
    """Download beside the final place and move each finished file there: no half-written file counts."""
    root.mkdir(parents=True, exist_ok=True)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALLED_AFTER)
    try:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
            _lend_archives(root, Path(folder))
            dataset(folder, download=True)
            for file in [path for path in Path(folder).rglob("*") if _is_data(path)]:
                target = root / file.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target)
    finally:
        socket.setdefaulttimeout(timeout)


def _is_data(path: Path) -> bool:
    return path.is_file() and path.suffix != ".gz"


def _lend_archives(root: Path, folder: Path) -> None:
    """Copy archives that the user has put under `root`: torchvision then unpacks them without network."""
    for archive in [*root.glob("*.gz"), *root.glob("*/raw/*.gz")]:
        copy = folder / archive.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive, copy)


def _expected(dataset: TorchvisionData) -> list[str]:
    if issubclass(dataset, tv.CIFAR10):
        files = [name for name, _ in [*dataset.train_list, *dataset.test_list]]
        return [f"{dataset.base_folder}/{name}" for name in [*files, dataset.meta["filename"]]]
    return [f"{dataset.__name__}/raw/{Path(url).stem}" for url, _ in dataset.resources]


def _state(dataset: TorchvisionData, root: Path) -> str:
    """Say which files are missing, or damaged."""
    if not root.exists():
        return "no such folder yet"
    expected = _expected(dataset)
    if missing := [name for name in expected if not (root / name).exists()]:
        return f"missing: {', '.join(missing)}"
    damaged = [name for name in expected if not _is_whole(dataset, root / name)]
    return f"damaged: {', '.join(damaged)}" if damaged else "all there, but not all of them readable"


def _is_whole(dataset: TorchvisionData, file: Path) -> bool:
    if issubclass(dataset, tv.CIFAR10):
        sums = dict([*dataset.train_list, *dataset.test_list])
        return check_integrity(str(file), sums.get(file.name, dataset.meta["md5"]))
    try:
        read_sn3_pascalvincent_tensor(str(file))
    except UNREADABLE:
        return False
    return True


def _explain(dataset: TorchvisionData, root: Path, error: Exception) -> str:
    expected = _expected(dataset)
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"data.root={root}: {dataset.__name__} is not there, and downloading it failed ({first_line}). "
        f"Expected: {', '.join(expected)}; {_state(dataset, root)}. Set data.root to a folder that holds these "
        f"files, or run once with network and a data.root that you may write to."
    )
