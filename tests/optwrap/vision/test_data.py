import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from optwrap.errors import ConfigError
from optwrap.vision import ImageDataset, PerSample, RandomFlip, RandomShift, digits, image_data


def _bytes(count: int = 12, channels: int = 1, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % 3


def _data(channels: int = 1, **options):
    split = _bytes(channels=channels)
    arguments = {"num_classes": 3, "channels": channels, "image_size": 8, "augment": False} | options
    return image_data({"train": split, "val": split, "test": split}, **arguments)


def test_a_loader_yields_float_batches_with_int64_labels():
    images, labels = next(iter(DataLoader(_data().train, batch_size=5)))
    assert images.shape == (5, 1, 8, 8)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 1, 2, 0, 1]


def test_one_by_one_gives_the_same_samples_as_a_batch():
    data = _data().train
    for index, (image, label) in zip([3, 0, 7], data.__getitems__([3, 0, 7]), strict=True):
        single, single_label = data[index]
        torch.testing.assert_close(single, image)
        assert single_label == label


def test_an_index_past_the_end_stops_iteration():
    assert len(list(_data().train)) == 12


def test_images_are_normalised_by_the_training_split():
    images, _ = next(iter(DataLoader(_data(channels=3).train, batch_size=12)))
    assert images.mean(dim=(0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-5)
    assert images.std(dim=(0, 2, 3), unbiased=False) == pytest.approx([1, 1, 1], abs=1e-5)


def test_images_of_one_value_are_not_divided_by_zero():
    black = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    data = image_data(
        {"train": black, "val": black, "test": black}, num_classes=1, channels=1, image_size=8, augment=False
    )
    assert torch.equal(data.train[0][0], torch.zeros(1, 8, 8))


@pytest.mark.parametrize(("own", "asked"), [(1, 3), (3, 1)])
def test_grey_and_colour_convert_into_each_other(own, asked):
    split = _bytes(channels=own)
    data = image_data(
        {"train": split, "val": split, "test": split},
        num_classes=3,
        channels=asked,
        image_size=8,
        augment=False,
    )
    assert data.train[0][0].shape == (asked, 8, 8)


def test_another_image_size_resizes():
    assert _data(image_size=11).val[0][0].shape == (1, 11, 11)


def test_only_training_images_are_augmented():
    data = _data(augment=True, default_augment=lambda batch: torch.full_like(batch, 255))
    assert data.train[0][0].unique().numel() == 1
    assert data.val[0][0].unique().numel() > 1
    assert data.test[0][0].unique().numel() > 1


def test_augment_false_means_none_and_a_transform_means_that_transform():
    def white(image):
        return torch.full_like(image, 255)

    assert _data(augment=False, default_augment=white).train[0][0].unique().numel() > 1
    assert _data(augment=white).train[0][0].unique().numel() == 1


def test_the_global_seed_decides_the_augmentation():
    train = _data(augment=True, default_augment=RandomShift(3)).train

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.stack([image for image, _ in train.__getitems__(range(12))])

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_datasets_can_be_sent_to_worker_processes():
    data = _data(
        augment=True, default_augment=nn.Sequential(RandomShift(1), RandomFlip(), PerSample(v2.RandomRotation(5)))
    )
    assert len(pickle.loads(pickle.dumps(data.train))) == 12


def test_labels_that_do_not_fit_name_num_classes_and_the_number_needed():
    with pytest.raises(ConfigError, match=r"data\.num_classes=2 .*train split.*data\.num_classes=3"):
        _data(num_classes=2)


def test_more_classes_than_labels_are_allowed():
    assert len(_data(num_classes=1000).train) == 12


@pytest.mark.parametrize(
    ("options", "message"), [({"channels": 2}, r"data\.channels=2"), ({"image_size": 0}, r"data\.image_size=0")]
)
def test_a_shape_that_cannot_be_made_is_an_error_that_names_the_key(options, message):
    split = _bytes()
    arguments = {"num_classes": 3, "channels": 1, "image_size": 8, "augment": False} | options
    with pytest.raises(ConfigError, match=message):
        image_data({"train": split, "val": split, "test": split}, **arguments)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 1, 4, 4), torch.zeros(3, 1, 4, 4).byte(), torch.zeros(2, 4, 4).byte()]
)
def test_an_image_dataset_refuses_what_is_not_bytes_with_labels(images):
    with pytest.raises(ValueError, match="uint8 images"):
        ImageDataset(images, torch.zeros(2), lambda batch: batch)


def test_images_are_normalised_by_the_numbers_that_are_given():
    plain, given = digits(augment=False), digits(augment=False, mean=[0.25], std=[0.5])
    expected = (plain.train.images[:3] / 255 - 0.25) / 0.5
    torch.testing.assert_close(given.train.collated([0, 1, 2])[0], expected)
    torch.testing.assert_close(given.test.collated([0])[0], (plain.test.images[:1] / 255 - 0.25) / 0.5)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"mean": [0.5, 0.5]}, r"data\.mean=\[0\.5, 0\.5\]: it is a number for each of data\.channels=1"),
        ({"std": [0.0]}, r"data\.std=\[0\.0\]: it is a positive number for each"),
    ],
)
def test_numbers_that_fit_no_channels_are_named(numbers, said):
    with pytest.raises(ConfigError, match=said):
        digits(**numbers)


def test_a_fingerprint_tells_data_apart():
    first = digits(split_seed=0).fingerprint
    assert first == digits(split_seed=0, augment=False).fingerprint
    assert first != digits(split_seed=1).fingerprint
