"""Random numbers that depend on a seed alone, and generators that are left as they were."""

import random

import numpy as np
import pytest
import torch

from optwrap.plan.random_state import seeded, torch_seeded


def drawn():
    return random.random(), np.random.normal(), torch.rand(()).item()


@pytest.mark.parametrize("inside", [seeded, torch_seeded])
def test_what_comes_after_is_what_would_have_come(inside):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first, expected = drawn(), drawn()  # NumPy's second normal number is made with its first
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert drawn() == first
    with inside(7):
        torch.rand(3)
    assert drawn() == expected


def test_inside_every_generator_is_seeded_and_torch_s_is_the_same_by_itself():
    with seeded(7):
        first = drawn()
    with seeded(7):
        assert drawn() == first
    with torch_seeded(7):
        assert torch.rand(()).item() == first[2]


@pytest.mark.parametrize("inside", [seeded, torch_seeded])
def test_an_error_inside_leaves_them_as_they_were_too(inside):
    before = torch.get_rng_state()
    with pytest.raises(KeyError), inside(7):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
