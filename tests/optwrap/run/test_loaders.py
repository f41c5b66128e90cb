import collections
import os
import random
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from optwrap.errors import ConfigError
from optwrap.plan.ranks import Ranks
from optwrap.run.data.delivery import to_device
from optwrap.run.loaders import make_loaders
from optwrap.run.setup import Process

CPU = torch.device("cpu")


def numbers(count):
    return TensorDataset(torch.arange(count).float())


@pytest.fixture
def data():
    return SimpleNamespace(train=numbers(10), val=numbers(5), test=numbers(6))


def loaders_of(data, size=4, workers=0, seed=0):
    return make_loaders(data, size, workers, seed, Process(CPU))


def values(loader):
    return [batch[0].tolist() for batch in loader]


class Noisy(Dataset):
    """Samples with a random number of each generator that augmentation may use."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.tensor([index, torch.rand(()).item(), np.random.rand(), random.random()])


def noisy(workers, first, last):
    data = SimpleNamespace(train=Noisy(), val=Noisy(), test=Noisy())
    return [batch.tolist() for batch in loaders_of(data, workers=workers).training(first, last)]


def test_training_shuffles_and_drops_the_rest(data):
    seen = values(loaders_of(data).training(0, 2))
    assert [len(batch) for batch in seen] == [4, 4]
    samples = [sample for batch in seen for sample in batch]
    assert len(set(samples)) == 8
    assert samples != sorted(samples)


class Workers(Dataset):
    """Samples that say which process made them."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.tensor(os.getpid())


def test_workers_of_an_evaluation_stay_for_the_next_and_end_with_the_loaders():
    data = SimpleNamespace(train=Workers(), val=Workers(), test=Workers())
    loaders = loaders_of(data, workers=2)
    first, second = ({int(batch[0]) for batch in loaders.evaluation("val")} for _ in range(2))
    assert first == second
    assert len(first) == 2
    assert os.getpid() not in first
    del loaders
    for process in first:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_evaluation_keeps_order_and_every_sample(data):
    loaders = loaders_of(data)
    assert values(loaders.evaluation("val")) == [[0, 1, 2, 3], [4]]
    assert values(loaders.evaluation("test")) == [[0, 1, 2, 3], [4, 5]]


def test_the_seed_decides_the_order_whatever_else_was_drawn(data):
    first = values(loaders_of(data, seed=1).training(0, 2))
    torch.rand(7)
    assert values(loaders_of(data, seed=1).training(0, 2)) == first
    assert values(loaders_of(data, seed=2).training(0, 2)) != first


def test_each_epoch_has_an_order_of_its_own(data):
    seen = values(loaders_of(data).training(0, 4))
    assert seen[:2] != seen[2:]


@pytest.mark.parametrize("workers", [0, 2])
def test_any_part_of_a_run_has_the_batches_of_the_whole_augmentation_included(workers):
    whole = noisy(0, 0, 8)
    assert noisy(workers, 2, 8) == whole[2:]
    assert noisy(workers, 4, 5) == whole[4:5]
    assert len({batch[0][1] for batch in whole}) == 8


def test_loading_leaves_the_random_numbers_of_the_run_alone():
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = torch.rand(3), np.random.rand(), random.random()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    noisy(0, 0, 3)
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(), random.random()) == expected[1:]


def test_an_evaluation_draws_the_same_random_numbers_each_time():
    loaders = loaders_of(SimpleNamespace(train=Noisy(), val=Noisy(), test=Noisy()))
    first, second = ([batch.tolist() for batch in loaders.evaluation("val")] for _ in range(2))
    assert first == second


class Terminated(Dataset):
    """A sample in which SIGTERM comes, as Slurm sends it to every process: how long the worker lives on."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGTERM)
        return torch.tensor(signal.getitimer(signal.ITIMER_REAL)[0])


@pytest.mark.parametrize(
    ("handler", "least", "most"), [(signal.SIG_DFL, 20, 30), (lambda signum, frame: None, 600, 3600)]
)
def test_a_worker_outlives_sigterm_for_as_long_as_the_run_may_go_on(handler, least, most):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        data = SimpleNamespace(train=Terminated(), val=Terminated(), test=Terminated())
        (left,) = loaders_of(data, size=1, workers=1).training(0, 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert least < left <= most


@pytest.mark.parametrize(("size", "nearest"), [(63, "62 or 64"), (1, ": 2")])
def test_a_batch_that_ranks_cannot_share_names_the_nearest_that_they_can(size, nearest, data):
    data.train = TensorDataset(torch.zeros(100, 1))
    with pytest.raises(ConfigError, match=f"batch_size={size}: .*{nearest}"):
        make_loaders(data, size, 0, 0, Process(CPU, Ranks(0, 2)))


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
    moved = to_device({"pair": (images, labels), "name": "x"}, CPU, torch.channels_last)
    assert moved["pair"][0].is_contiguous(memory_format=torch.channels_last)
    assert moved["pair"][1].shape == (2,)
    assert moved["name"] == "x"


def test_tuples_keep_their_kind():
    pair = collections.namedtuple("Pair", "name image")("x", torch.zeros(3, 1))
    moved = to_device(pair, CPU)
    assert type(moved) is type(pair)
