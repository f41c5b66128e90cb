"""What data says of its samples."""

import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from optwrap.errors import ConfigError
from optwrap.run.data.splits import find_splits
from optwrap.use.samples import classes_of, names_of, preprocessing_of


class Named(TensorDataset):
    names = ("a.png", "b.png", "c.png")
    classes = ("cat", "dog")


def named():
    return Named(torch.zeros(3))


class Folder(TensorDataset):
    """As torchvision's ImageFolder."""

    root = "/data"
    samples = [("/data/cat/1.png", 0), ("/data/dog/2.png", 1)]  # noqa: RUF012 -- as there


def test_a_sample_has_the_name_that_the_data_set_gives_also_in_a_part_of_it():
    assert names_of(TensorDataset(torch.zeros(3))) is None
    assert names_of(named())(1) == "b.png"
    assert names_of(Subset(Subset(named(), [2, 0]), [1]))(0) == "a.png"
    assert names_of(Folder(torch.zeros(2)))(1) == "dog/2.png"


def test_preprocessing_is_of_plain_values():
    said = {"train": named(), "preprocessing": {"mean": [0.5]}}
    assert preprocessing_of(find_splits(said)) == {"mean": [0.5]}
    assert preprocessing_of(find_splits({"train": named()})) is None
    with pytest.raises(ConfigError, match=r"data\.preprocessing: it is a dict of numbers"):
        preprocessing_of(find_splits({**said, "preprocessing": {"mean": torch.zeros(3)}}))


def test_classes_are_said_by_the_data_or_by_what_is_trained_on():
    assert classes_of(find_splits({"train": Subset(named(), [0])})) == ("cat", "dog")
    assert classes_of(find_splits({"train": named(), "classes": ["one", "two"]})) == ["one", "two"]
    assert classes_of(find_splits({"train": TensorDataset(torch.zeros(3))})) is None
    with pytest.raises(ConfigError, match=r"data\.classes: one is the name of two classes"):
        classes_of(find_splits({"train": named(), "classes": ["one", "one"]}))
