"""Images in files as data to train on."""

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

import evaluate
from optwrap.errors import ConfigError
from optwrap.run.loaders import make_loaders
from optwrap.run.setup import Process
from optwrap.use.samples import classes_of, names_of, preprocessing_of
from optwrap.vision import folder_data, image_folder
from optwrap.vision.files import ImageFiles

CPU = Process(torch.device("cpu"))


@pytest.fixture
def root(tmp_path):
    """Ten images of each of two classes, bright and dark, of different sizes."""
    generator = np.random.default_rng(0)
    for number in range(20):
        dark = number % 2
        pixels = generator.integers(0, 100, (9 + number, 12, 3), dtype=np.uint8) + 150 * (1 - dark)
        path = tmp_path / "photos" / ("dark" if dark else "bright") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return str(tmp_path / "photos")


def pixels(root, name):
    """Return the file's image, 0 to 1, by plain PIL and torch."""
    image = torch.tensor(np.asarray(Image.open(f"{root}/{name}"))).permute(2, 0, 1)[None].float()
    return interpolate(image, (8, 8), mode="bilinear", antialias=True)[0] / 255


def test_a_sample_is_the_file_resized_and_normalised_with_its_class_and_name(root):
    data = image_folder(root, 2, image_size=8, mean=[0.5] * 3, std=[0.25] * 3)
    assert data.train.classes == ["bright", "dark"]
    assert [len(each) for each in (data.train, data.val, data.test)] == [12, 4, 4]
    for row, name in enumerate(data.val.names):
        image, label = data.val[row]
        assert label == (name.startswith("dark"))
        # resized on bytes, which are rounded after rows and after columns
        torch.testing.assert_close(image * 0.25 + 0.5, pixels(root, name), atol=1.01 / 255, rtol=0)


def test_mean_and_std_are_those_of_the_training_images(root):
    data = image_folder(root, 2, image_size=8)
    images, _ = data.train.unaugmented().collated(range(len(data.train)))
    assert images.mean(dim=(0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-5)
    assert images.std(dim=(0, 2, 3), unbiased=False) == pytest.approx([1, 1, 1], abs=1e-5)


def test_of_many_images_some_are_measured_and_a_line_says_so(root, monkeypatch, caplog):
    monkeypatch.setattr(folder_data, "MEASURED", 4)
    caplog.set_level("INFO")
    few = image_folder(root, 2, image_size=8).train.preprocessing["mean"]
    assert "those of 4 of 12 training images" in caplog.text
    assert image_folder(root, 2, image_size=8, cache=True).train.preprocessing["mean"] != few


def test_cached_images_are_those_in_the_files(root):
    read, kept = (image_folder(root, 2, image_size=8, cache=cache) for cache in (False, True))
    for name in os.listdir(f"{root}/dark"):
        os.remove(f"{root}/dark/{name}")
        kept.test.collated(range(len(kept.test)))
    with pytest.raises(ConfigError, match=r"data\.root=.*dark/.*No such file"):
        read.test.collated(range(len(read.test)))


def test_cached_or_not_a_batch_is_the_same(root):
    read, kept = (image_folder(root, 2, image_size=8, cache=cache) for cache in (False, True))
    torch.manual_seed(0)
    first = read.train.collated([3, 1, 7])
    torch.manual_seed(0)
    for one, other in zip(first, kept.train.collated([3, 1, 7]), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("cache", [False, True])
def test_batches_depend_on_the_seed_and_their_place_alone(root, cache):
    data = image_folder(root, 2, image_size=8, cache=cache)

    def batches(seed, workers, first=0):
        with make_loaders(data, 4, workers, seed, CPU) as loaders:
            return [images for images, _ in loaders.training(first, 6)]

    whole, by_workers, rest = batches(0, 0), batches(0, 2), batches(0, 1, first=4)
    assert all(map(torch.equal, whole, by_workers))
    assert all(map(torch.equal, whole[4:], rest))
    assert not torch.equal(whole[0], batches(1, 0)[0])
    assert not torch.equal(whole[0].sort(0)[0], whole[3].sort(0)[0])  # augmented anew in the next epoch


def test_only_training_images_are_augmented_by_what_is_asked_for(root):
    def white(image):
        return torch.full_like(image, 255)

    data = image_folder(root, 2, image_size=8, augment=white, mean=[0.0] * 3, std=[1.0] * 3)
    assert data.train[0][0].unique().tolist() == [1]
    assert data.train.unaugmented()[0][0].unique().numel() > 1
    assert data.val[0][0].unique().numel() > 1
    plain = image_folder(root, 2, image_size=8, augment=False, mean=[0.0] * 3, std=[1.0] * 3)
    assert torch.equal(plain.train[0][0], data.train.unaugmented()[0][0])


def test_files_to_predict_are_prepared_as_those_that_were_trained_on(root, tmp_path):
    with make_loaders(image_folder(root, 2, image_size=8), 4, 0, 0, CPU) as loaders:
        splits = loaders.splits
    numbers = preprocessing_of(splits)
    assert (classes_of(splits), names_of(splits.val)(0)) == (["bright", "dark"], splits.val.names[0])
    files = ImageFiles(tmp_path / "photos", numbers)
    for row, name in enumerate(splits.val.names):
        assert torch.equal(files[files.names.index(name)], splits.val[row][0])


def test_grey_images_have_one_channel(root):
    assert image_folder(root, 2, channels=1, image_size=8).val[0][0].shape == (1, 8, 8)


def test_a_fingerprint_tells_names_sizes_and_times_apart(root):
    first = image_folder(root, 2, image_size=8).fingerprint
    assert first == image_folder(root, 2, image_size=16, augment=False).fingerprint
    assert first != image_folder(root, 2, image_size=8, split_seed=1).fingerprint
    os.utime(f"{root}/dark/01.png", (1, 1))
    assert first != image_folder(root, 2, image_size=8).fingerprint


def test_it_can_be_sent_to_worker_processes(root):
    assert len(pickle.loads(pickle.dumps(image_folder(root, 2).train))) == 12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_classes": 3}, r"data\.num_classes=3: .* has 2 classes \(bright, dark\)\. Set data\.num_classes=2"),
        ({"num_classes": None}, r"data\.num_classes=null: .*Set data\.num_classes=2"),
        ({"channels": 4}, r"data\.channels=4: .* 1 or 3"),
        ({"image_size": 0}, r"data\.image_size=0"),
        ({"mean": [0.5]}, r"data\.mean=\[0\.5\]: it is a number for each of data\.channels=3"),
        ({"fold": 0, "folds": 9}, r"data\.folds=9: a class has 8 samples"),
    ],
)
def test_what_does_not_fit_names_the_key(root, options, said):
    with pytest.raises(ConfigError, match=said):
        image_folder(root, **{"num_classes": 2} | options)


def test_a_broken_image_ends_the_run_with_one_message_from_a_worker_too(root):
    data = image_folder(root, 2, image_size=8)
    name = data.train.names[0]
    with open(f"{root}/{name}", "r+b") as file:
        file.truncate(60)
    with make_loaders(data, 12, 1, 0, CPU) as loaders, pytest.raises(ConfigError) as error:
        list(loaders.training(0, 1))
    assert str(error.value).startswith(f"data.root={root}: {root}/{name}: this is no image that can be read")
    assert "Replace the file" in str(error.value)


def test_a_run_trains_on_a_folder_and_evaluates_as_it_did(root, train):
    folder = train(
        *("data=image_folder", f"data.root={root}", "data.num_classes=2", "data.image_size=8", "batch_size=4"),
        *("model.width=4", "epochs=2", "device=cpu"),
    )
    result = evaluate.main([f"run={folder}", "split=test"])
    assert f"{result['accuracy']:.4f}" in (folder / "train.log").read_text()
