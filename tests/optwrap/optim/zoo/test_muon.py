"""No head in Muon, and no hidden matrix left out, in the models of three packages."""

import statistics
import warnings

import pytest

from tests.optwrap.optim.zoo import exceptions

pytestmark = pytest.mark.slow

# The median of the shares, and the least; BLOOM has few layers beside a large vocabulary.
SHARES = {"timm": (0.95, 0.3), "torchvision": (0.9, 0.2), "transformers": (0.9, 0.005)}


def check(package, outcomes, at_least):
    """Assert what holds for each model of a package, and in the middle for the share that Muon holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = list(outcomes)
    assert len({outcome.name for outcome in seen}) == len(seen) >= at_least
    wrong = {each.name for each in seen if each.heads_in_muon or each.left_out or each.said}
    assert wrong == set(exceptions.MUON) & {each.name for each in seen}
    median, least = SHARES[package]
    assert statistics.median(each.share for each in seen) >= median
    assert min(each.share for each in seen) >= least
    assert all(each.matrices for each in seen)


def test_timm():  # 60 s
    pytest.importorskip("timm")
    from tests.optwrap.optim.zoo.muon import of_timm

    check("timm", of_timm(each_module=3), 380)


def test_torchvision():
    from tests.optwrap.optim.zoo.muon import of_torchvision

    check("torchvision", of_torchvision(), 80)


def test_transformers():
    pytest.importorskip("transformers")
    from tests.optwrap.optim.zoo.muon import of_transformers

    check("transformers", of_transformers(), 80)
