import logging

import pytest

from optwrap.errors import ConfigError
from optwrap.vision import cifar10, mnist


def _first_pixels(dataset) -> list[int]:
    """The row numbers that the fixture hides in the images."""
    return dataset.images[:, 0, 0, 0].tolist()


def test_mnist_holds_out_validation_images_and_keeps_the_official_test_set(mnist_root):
    data = mnist(root=str(mnist_root), val_size=15)
    assert len(data.train) == 25
    assert len(data.val) == 15
    assert sorted(_first_pixels(data.train) + _first_pixels(data.val)) == list(range(40))
    assert _first_pixels(data.test) == list(range(10))
    assert data.test.labels.tolist() == list(range(10))


def test_mnist_keeps_images_and_labels_together(mnist_root):
    train = mnist(root=str(mnist_root), val_size=15).train
    assert [pixel % 10 for pixel in _first_pixels(train)] == train.labels.tolist()


def test_mnist_is_read_from_a_read_only_folder(mnist_root, no_network):
    for path in (mnist_root / "MNIST" / "raw", mnist_root / "MNIST", mnist_root):
        path.chmod(0o555)
    try:
        assert len(mnist(root=str(mnist_root), val_size=5).train) == 35
    finally:
        for path in (mnist_root, mnist_root / "MNIST", mnist_root / "MNIST" / "raw"):
            path.chmod(0o755)


@pytest.mark.parametrize("size", [0, 40, 41])
def test_a_val_size_that_leaves_nothing_is_an_error(mnist_root, size):
    with pytest.raises(ConfigError, match=rf"data\.val_size={size} .*39"):
        mnist(root=str(mnist_root), val_size=size)


def test_cifar_is_read_channels_first(cifar_root):
    data = cifar10(root=str(cifar_root), val_size=4)
    assert data.train[0][0].shape == (3, 32, 32)
    assert len(data.train) == 16
    assert data.test.labels.tolist() == list(range(10))


def test_a_missing_data_set_without_network_says_what_belongs_where(tmp_path, no_network, caplog):
    root = tmp_path / "nowhere"
    with caplog.at_level(logging.INFO), pytest.raises(ConfigError) as caught:
        mnist(root=str(root))
    message = str(caught.value)
    assert f"data.root={root}" in message
    assert "MNIST/raw/train-images-idx3-ubyte" in message
    assert "Set data.root to a folder" in message
    assert f"data.root={root}: no such folder yet; downloading" in caplog.text


def test_a_partial_folder_names_what_is_missing_and_works_once_completed(tmp_path, write_mnist, no_network):
    root = write_mnist(tmp_path / "data")
    labels = root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    kept = labels.read_bytes()
    labels.unlink()
    with pytest.raises(ConfigError, match="missing: MNIST/raw/t10k-labels-idx1-ubyte"):
        mnist(root=str(root), val_size=5)
    assert sorted(path.name for path in root.iterdir()) == ["MNIST"]
    labels.write_bytes(kept)
    assert len(mnist(root=str(root), val_size=5).train) == 35


def test_a_file_cut_short_is_not_taken_for_data(mnist_root, no_network):
    images = mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="damaged: MNIST/raw/train-images-idx3-ubyte\\. "):
        mnist(root=str(mnist_root), val_size=5)


def test_a_missing_cifar_without_network_names_its_files(tmp_path, no_network):
    with pytest.raises(ConfigError, match="cifar-10-batches-py/data_batch_1"):
        cifar10(root=str(tmp_path))


def test_an_unwritable_root_without_the_files_is_a_config_error(tmp_path, no_network):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match=r"data\.root="):
        mnist(root=str(tmp_path / "file" / "data"))


def test_classes_have_the_names_that_the_files_say_and_numbers_have_none(cifar_root, mnist_root):
    assert cifar10(root=str(cifar_root), val_size=5).test.classes == [str(label) for label in range(10)]
    assert cifar10(root=str(cifar_root), val_size=5, num_classes=12).test.classes is None
    assert mnist(root=str(mnist_root), val_size=5).test.classes is None
