"""Means that an evaluation adds up, compared with numpy's over all values at once."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import multiprocessing

from optwrap.metrics import Mean, Metrics

values = st.lists(st.lists(st.floats(-1e6, 1e6, width=32), max_size=5), min_size=1, max_size=5)


@given(values.filter(any))
def test_the_mean_is_that_of_all_values_whatever_the_batches(batches):
    mean = Mean()
    for batch in batches:
        mean.update(torch.tensor(batch))
    assert mean.compute().item() == pytest.approx(
        np.concatenate(batches).astype(float).mean(), rel=1e-12, abs=1e-9
    )


def test_a_sum_may_be_for_other_things_than_its_values():
    mean = Mean()
    mean.update(torch.tensor([3.0, 5.0]), torch.tensor([1, 0]))
    mean.update(torch.tensor([4.0]), torch.tensor([2]))
    assert mean.compute().item() == 4


def test_many_small_values_are_not_lost_beside_a_large_sum():
    mean = Mean()
    mean.update(torch.tensor([2.0**24]))
    for _ in range(8):
        mean.update(torch.ones(1))
    assert mean.compute().item() == (2**24 + 8) / 9


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_shows(bad):
    mean = Mean()
    mean.update(torch.tensor([1.0, bad]))
    assert not math.isfinite(mean.compute().item())


def test_nothing_has_no_mean_and_a_reset_forgets():
    metrics = Metrics(loss=Mean(), accuracy=Mean(higher_is_better=True))
    metrics["loss"].update(torch.tensor([3.0]))
    metrics["accuracy"].update(torch.tensor([True, False]))
    assert {name: value.item() for name, value in metrics.compute().items()} == {"loss": 3, "accuracy": 0.5}
    metrics.reset()
    assert all(math.isnan(value) for value in metrics.compute().values())


def compare(rank, rendezvous):
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    metrics = Metrics(loss=Mean(), bits=Mean())
    metrics["bits"].update(torch.tensor([2.0]))
    if rank:  # the other has no batch
        metrics["loss"].update(torch.tensor([1.0, 2.0, 6.0]))
    seen = {name: value.item() for name, value in metrics.compute().items()}
    dist.destroy_process_group()
    assert seen == {"loss": 3, "bits": 2}


@pytest.mark.slow  # runs on several ranks have their metrics compared among the quick tests
def test_two_processes_see_the_mean_over_both(tmp_path):
    multiprocessing.spawn(compare, args=(tmp_path / "rendezvous",), nprocs=2)
