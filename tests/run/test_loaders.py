import collections
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import TensorDataset

from optwrap.errors import ConfigError
from optwrap.run.loaders import batch_size, batches, make_loaders, to_device

CPU = torch.device("cpu")


def numbers(count):
    return TensorDataset(torch.arange(count).float())


@pytest.fixture
def data():
    return SimpleNamespace(train=numbers(10), val=numbers(5), test=numbers(6))


def loaders_of(data, size=4, workers=0, seed=0):
    return make_loaders(data, size, workers, seed, CPU)


def values(loader, limit=None):
    return [batch[0].tolist() for batch in batches(loader, CPU, False, limit)]


def test_training_shuffles_and_drops_the_rest(data):
    seen = values(loaders_of(data).train)
    assert [len(batch) for batch in seen] == [4, 4]
    samples = [sample for batch in seen for sample in batch]
    assert samples != sorted(samples)


def test_evaluation_keeps_order_and_every_sample(data):
    loaders = loaders_of(data)
    assert values(loaders.val) == [[0, 1, 2, 3], [4]]
    assert values(loaders.test) == [[0, 1, 2, 3], [4, 5]]


def test_the_seed_decides_the_order_whatever_else_was_drawn(data):
    first = values(loaders_of(data, seed=1).train)
    torch.rand(7)
    assert values(loaders_of(data, seed=1).train) == first
    assert values(loaders_of(data, seed=2).train) != first


def test_a_limit_goes_over_pass_after_pass(data):
    seen = values(loaders_of(data).train, limit=5)
    assert len(seen) == 5
    assert seen[:2] != seen[2:4]


def test_workers_give_the_same_batches(data):
    assert values(loaders_of(data, workers=2).train) == values(loaders_of(data).train)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"size": 0}, "batch_size=0"),
        ({"size": 11}, "batch_size=11.*10 training"),
        ({"workers": -1}, "num_workers=-1"),
    ],
)
def test_errors_name_the_key(kwargs, said, data):
    with pytest.raises(ConfigError, match=said):
        loaders_of(data, **kwargs)


def test_nested_batches_move_and_images_become_channels_last():
    images, labels = torch.zeros(2, 3, 4, 4), torch.zeros(2)
    moved = to_device({"pair": (images, labels), "name": "x"}, CPU, channels_last=True)
    assert moved["pair"][0].is_contiguous(memory_format=torch.channels_last)
    assert moved["pair"][1].shape == (2,)
    assert moved["name"] == "x"
    assert batch_size({"pair": [images, labels]}) == batch_size(images) == 2


def test_tuples_keep_their_kind_and_samples_are_counted_by_the_first_tensor():
    pair = collections.namedtuple("Pair", "name image")("x", torch.zeros(3, 1))
    moved = to_device(pair, CPU)
    assert type(moved) is type(pair)
    assert batch_size(pair) == 3
    assert batch_size(["no", "tensor"]) == 0
