from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from optwrap.errors import ConfigError
from optwrap.run.data.splits import find_splits, own_collate_fn
from tests.optwrap.run.data.own import PaddedWords, Stream, Words, padded, samples

SOME = samples(4)


@pytest.mark.parametrize("data", [{"train": SOME, "test": SOME}, SimpleNamespace(train=SOME, test=SOME, val=None)])
def test_splits_are_attributes_or_entries_and_may_be_missing(data):
    splits = find_splits(data)
    assert (splits.train, splits.val, splits.test) == (SOME, None, SOME)


def test_an_empty_split_is_none():
    assert find_splits({"train": SOME, "val": samples(0)}).val is None


def test_a_stream_of_unknown_length_is_a_split():
    stream = Stream(3)
    assert find_splits({"train": stream}).train is stream


class Unsized:
    def __getitem__(self, row):
        return row


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"val": SOME}, r"data\.train is missing"),
        ({"train": samples(0)}, r"data\.train is empty"),
        (SimpleNamespace(), r"data\.train is missing"),
        ({"train": SOME, "vall": SOME}, r"data\.vall: .*Did you mean 'val'"),
        ({"train": SOME, "val": DataLoader(SOME)}, r"data\.val is a DataLoader: give its data set"),
        ({"train": iter([1])}, r"data\.train is an iterator, which can be read once"),
        ({"train": 3}, r"data\.train is no data set \(int\)"),
        ({"train": SOME, "test": Unsized()}, r"data\.test: Unsized has no __len__"),
    ],
)
def test_what_is_no_data_is_said_by_its_key(data, said):
    with pytest.raises(ConfigError, match=said):
        find_splits(data)


def test_a_part_of_a_data_set_has_its_collate_fn():
    assert own_collate_fn(Subset(Subset(PaddedWords(), [0, 1]), [1])) is padded
    assert own_collate_fn(Words()) is None
    assert torch.equal(padded([Words()[0], Words()[1]])[0], torch.tensor([[1.0, 0, 0, 0], [2, 2, 0, 0]]))
