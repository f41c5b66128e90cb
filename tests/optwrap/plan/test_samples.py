from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from optwrap.errors import ConfigError
from optwrap.plan.order import BatchIndex
from optwrap.plan.samples import find_splits
from optwrap.run.loaders import SeededBatches

DATA = TensorDataset(torch.arange(4.0))


class Words(Dataset):
    """Samples of different length."""

    def __len__(self):
        return 3

    def __getitem__(self, row):
        return torch.ones(row + 1)


class Padded(Words):
    def collate_fn(self, samples):
        return torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


def test_splits_may_be_attributes_or_entries():
    splits = {"train": DATA, "val": DATA, "test": DATA}
    assert find_splits(splits).val is DATA
    given = SimpleNamespace(**splits)
    assert find_splits(given) is given


@pytest.mark.parametrize(
    ("val", "message"),
    [
        (None, "data.val is missing"),
        ([], "data.val is empty"),
        (Stream(), "data.val is a Stream: a run takes data sets whose samples have a number"),
        (DataLoader(DATA), "data.val is a DataLoader: give its data set"),
        (3, "data.val is a int"),
    ],
)
def test_a_split_that_a_run_cannot_take_is_named(val, message):
    with pytest.raises(ConfigError, match=message):
        find_splits({"train": DATA, "val": val, "test": DATA})
    with pytest.raises(ConfigError, match=message):
        find_splits(SimpleNamespace(train=DATA, val=val, test=DATA))


def test_a_missing_and_a_misspelt_split_are_named():
    with pytest.raises(ConfigError, match=r"data\.test is missing"):
        find_splits({"train": DATA, "val": DATA})
    with pytest.raises(ConfigError, match=r"data\.vall: .*Did you mean 'val'"):
        find_splits({"train": DATA, "vall": DATA, "test": DATA})


@pytest.mark.parametrize(
    "samples", [Padded(), Subset(Padded(), [0, 1, 2]), Subset(Subset(Padded(), [0, 1, 2]), [0, 1, 2])]
)
def test_a_data_set_may_make_batches_of_its_own_samples(samples):
    batch = SeededBatches(samples)[BatchIndex([0, 2], 0)]
    assert batch.tolist() == [[1, 0, 0], [1, 1, 1]]


def test_samples_of_different_length_ask_for_a_way_to_join_them():
    with pytest.raises(
        ConfigError, match=r"data: these samples cannot be put into one batch .*collate_fn\(samples\)"
    ):
        SeededBatches(Words())[BatchIndex([0, 2], 0)]
