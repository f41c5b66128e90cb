import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import Dataset, Subset

from optwrap.errors import ConfigError
from optwrap.run.data.delivery import to_device
from optwrap.run.loaders import make_loaders
from optwrap.run.setup import Process
from tests.optwrap.run.data.own import PaddedWords, Words, padded, words
from tests.optwrap.run.data.runs import on, result

CPU = torch.device("cpu")


def loaders_of(data, workers=0):
    return make_loaders(data, 4, workers, 0, Process(CPU))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("split", ["train", "val"])
def test_samples_that_fit_no_batch_are_one_message_also_from_a_worker(split, workers):
    data = loaders_of({"train": Words() if split == "train" else PaddedWords(), "val": Words()}, workers)
    with pytest.raises(
        ConfigError, match=rf"^data\.{split}: .*cannot be put into one batch.*collate_fn\(samples\)"
    ):
        next(data.training(0, 1) if split == "train" else data.evaluation("val"))


@pytest.mark.parametrize("data", [words("of_set"), words("of_data")])
def test_a_collate_fn_makes_the_batches(data):
    (whole,) = loaders_of({**vars(data)} if not isinstance(data, dict) else data).training(0, 1)
    assert whole[0].shape == (4, 4)
    batches = list(loaders_of(data).evaluation("val"))
    for number, (sequences, labels) in enumerate(batches):
        expected = padded([Words()[row] for row in range(4 * number, 4 * number + 4)])
        assert torch.equal(sequences, expected[0])
        assert torch.equal(labels, expected[1])


def test_that_of_a_data_set_comes_before_that_of_the_data():
    data = {"train": Subset(PaddedWords(), range(4)), "collate_fn": lambda rows: "other"}
    assert next(loaders_of(data).training(0, 1))[0].shape == (4, 4)


def test_what_moves_itself_is_moved():
    packed = to_device(pack_sequence([torch.ones(2), torch.ones(1)]), CPU)
    assert isinstance(packed, PackedSequence)
    assert packed.batch_sizes.tolist() == [2, 1]


@pytest.mark.parametrize("collate", ["of_set", "of_data"])
def test_a_run_trains_on_padded_sequences(collate, train):
    folder = train(*on("words", f"data.collate={collate}", "epochs=1"))
    assert result(folder)["updates"] == 3
    assert "val/accuracy" in result(folder)


class Drawn(Dataset):
    """Its batches are one number of NumPy's and one of torch's."""

    def __len__(self):
        return 8

    def __getitem__(self, row):
        return self.collated([row])

    def collated(self, rows):
        return np.random.random(), torch.rand(()).item()


class DrawnAlone(Drawn):
    draws_from_torch_alone = True

    def collated(self, rows):
        return super().collated(rows)


class DrawnByItsHeir(DrawnAlone):
    def collated(self, rows):
        return super().collated(rows)


@pytest.mark.parametrize(("data", "alone"), [(Drawn(), False), (DrawnAlone(), True), (DrawnByItsHeir(), False)])
def test_random_numbers_of_a_batch_are_those_of_its_place(data, alone):
    def batches():
        return list(loaders_of({"train": data}).training(0, 2))

    np.random.seed(0)
    first, second = batches(), batches()
    assert [batch[1] for batch in first] == [batch[1] for batch in second]
    assert ([batch[0] for batch in first] == [batch[0] for batch in second]) is not alone
