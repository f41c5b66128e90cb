"""Samples that lie on the device give the batches that the host's give, to the bit."""

import contextlib

import pytest
import torch

from optwrap.errors import ConfigError
from optwrap.plan.ranks import ALONE
from optwrap.run.data.delivery import copied_ahead, placed
from optwrap.run.data.splits import find_splits
from optwrap.run.loaders import make_loaders
from optwrap.run.setup import Process
from optwrap.vision import fake

CPU = torch.device("cpu")
DEVICES = [
    CPU,
    pytest.param(
        torch.device("cuda"), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


@pytest.fixture
def splits():
    return find_splits(fake(size=40, eval_size=20, image_size=8, augment=lambda image: image.roll(1)))


def batches(splits, device, pinned):
    process = Process(device, ALONE)
    loaders = make_loaders(splits, 8, 0, seed=3, process=process, pinned=pinned)
    return [batch for part in (loaders.training(2, 12), loaders.evaluation("val")) for batch in part]


@pytest.mark.parametrize("device", DEVICES)
def test_batches_are_those_of_samples_in_the_host_s_memory(splits, device):
    there, lies_there = placed(splits, True, device)
    assert lies_there
    assert there.train.images.device.type == device.type
    for moved, made in zip(batches(splits, device, True), batches(there, device, False), strict=True):
        assert made[0].device.type == device.type
        assert all(torch.equal(one, other) for one, other in zip(moved, made, strict=True))


@pytest.mark.parametrize("wanted", [None, False])
def test_nothing_is_moved_unasked_on_a_cpu(splits, wanted):
    assert placed(splits, wanted, CPU) == (splits, False)


def test_data_that_cannot_lie_there_is_named():
    lists = find_splits({"train": [(torch.zeros(1), 0)], "val": [(torch.zeros(1), 0)]})
    with pytest.raises(
        ConfigError, match=r"data_on_device=true: data\.train \(list\) has no to\(device\) and nbytes"
    ):
        placed(lists, True, CPU)
    assert placed(lists, None, CPU) == (lists, False)


class Stream:
    """Writes down what it is told, in the order of all streams."""

    def __init__(self, name, told):
        self.name, self.told, self.count = name, told, 0

    def wait_stream(self, other):
        self.told.append(f"{self.name} waits for {other.name}")

    def record_event(self):
        self.count += 1
        self.told.append(f"{self.name} copies {self.count}")
        return self.count

    def wait_event(self, event):
        self.told.append(f"{self.name} waits for copy {event}")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_each_batch_is_copied_before_the_one_before_it_is_computed_with(count, monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("computing", told))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    batches = (torch.tensor(each) for each in range(1, count + 1))
    for batch in copied_ahead(batches, CPU, torch.preserve_format, Stream("copying", told)):
        told.append(f"batch {batch}")
    first = ["copying waits for computing", "copying copies 1"]
    second = ["copying waits for computing", "copying copies 2"]
    used = [["computing waits for copy 1", "batch 1"], ["computing waits for copy 2", "batch 2"]]
    assert told == {0: [], 1: first + used[0], 2: first + second + used[0] + used[1]}[count]
