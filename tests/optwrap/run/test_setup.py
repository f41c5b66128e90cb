import random

import numpy as np
import pytest
import torch

from optwrap.errors import ConfigError
from optwrap.run.setup import find_device, seed_everything


@pytest.fixture(autouse=True)
def _restore():
    yield
    torch.use_deterministic_algorithms(False)


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_a_seed_fixes_every_generator():
    seed_everything(3, deterministic=False)
    first = draw()
    seed_everything(3, deterministic=False)
    assert draw() == first
    seed_everything(4, deterministic=False)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_switches_torchs_algorithms(wanted):
    seed_everything(0, deterministic=wanted)
    assert torch.are_deterministic_algorithms_enabled() is wanted


def test_auto_finds_a_device():
    assert find_device("auto").type in ("cuda", "mps", "cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "", "cpu:x"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(name):
    with pytest.raises(ConfigError, match=rf"device={name}: .*device=auto.*'cpu'"):
        find_device(name)


@pytest.mark.parametrize("seed", [-1, 2**70])
def test_a_seed_that_no_generator_takes_is_an_error(seed):
    with pytest.raises(ConfigError, match=f"seed={seed}"):
        seed_everything(seed, deterministic=False)
