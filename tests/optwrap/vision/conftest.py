import pickle
import struct
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5


def _write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def _write_mnist(root: Path, train: int = 40, test: int = 10) -> Path:
    """Write a data set in MNIST's format; the first pixel of each image is its row number."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        images = generator.integers(0, 256, (count, 28, 28))
        images[:, 0, 0] = np.arange(count)
        _write_idx(raw / f"{prefix}-images-idx3-ubyte", images)
        _write_idx(raw / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10)
    return root


@pytest.fixture
def write_mnist():
    return _write_mnist


@pytest.fixture
def mnist_root(tmp_path):
    return _write_mnist(tmp_path / "data")


@pytest.fixture
def cifar_root(tmp_path, monkeypatch):
    """Twenty images in CIFAR-10's format, and torchvision made to expect their checksums."""
    root = tmp_path / "data"
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
    contents = {
        "data_batch_1": {"data": pixels, "labels": [i % 10 for i in range(20)]},
        "test_batch": {"data": pixels[:10], "labels": list(range(10))},
        "batches.meta": {"label_names": [str(i) for i in range(10)]},
    }
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
    sums = {name: calculate_md5(folder / name) for name in contents}
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    return root


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network in this test")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
