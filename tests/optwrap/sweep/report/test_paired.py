import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optwrap.sweep.records import Record
from optwrap.sweep.report.paired import Difference, difference
from optwrap.sweep.report.results import Job
from optwrap.sweep.report.settings import Setting

NUMBERS = st.floats(-10, 10).map(lambda value: round(value, 3))


def setting(values, folds=None):
    """A job a value, of seeds 0, 1, ... or of folds."""
    jobs = []
    for repeat, value in enumerate(values):
        told = {"seed": str(repeat)} if folds is None else {"data.fold": str(repeat), "data.folds": str(folds)}
        jobs.append(Job(Path(f"{repeat}"), told, Record("finished"), {"acc": value}))
    return Setting({}, jobs)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8))
def test_the_interval_is_that_of_the_paired_t_test(pairs):
    first, second = zip(*pairs, strict=True)
    found = difference(setting(first), setting(second), "acc")
    assert found.mean == pytest.approx(np.mean(np.subtract(first, second)), abs=1e-12)
    if found.spread > 1e-9:
        expected = stats.ttest_rel(first, second).confidence_interval(0.95)
        assert found.interval == pytest.approx((expected.low, expected.high))
        assert found.shows == (expected.low > 0 or expected.high < 0)


def test_folds_widen_it_by_what_their_training_samples_share():
    first, second = [0.9, 0.8, 0.7, 0.9, 0.8], [0.8, 0.75, 0.72, 0.85, 0.7]
    deltas = np.subtract(first, second)
    reach = stats.t.ppf(0.975, 4) * math.sqrt((1 / 5 + 1 / 4) * deltas.var(ddof=1))  # 1 validated for 4 trained on
    found = difference(setting(first, folds=5), setting(second, folds=5), "acc")
    assert found.interval == pytest.approx((deltas.mean() - reach, deltas.mean() + reach))


def test_only_seeds_that_both_have_are_compared():
    assert difference(setting([1.0, 2.0, 3.0]), setting([0.5]), "acc") == Difference(0.5, None, 0.0, 1)
    assert difference(setting([1.0]), Setting({}, []), "acc") is None
    assert difference(setting([1.0, math.nan]), setting([0.5, 0.5]), "acc") is None
    assert difference(setting([1.0]), setting([0.5]), "loss") is None


def test_with_the_pairs_that_it_asks_for_four_of_five_comparisons_show_the_difference():
    needed = Difference(0.03, (-0.03, 0.09), 0.05, 5).needed
    generator = np.random.default_rng(0)
    samples = generator.normal(0.03, 0.05, (4000, needed))
    shown = stats.ttest_1samp(samples, 0, axis=1).confidence_interval(0.95).low > 0
    assert 0.76 < shown.mean() < 0.88


def test_what_no_number_of_folds_shows_needs_none():
    assert Difference(0.001, (-0.1, 0.1), 0.05, 5, overlap=0.25).needed is None
    assert Difference(0.0, (-0.1, 0.1), 0.05, 5).needed is None


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Difference(0.0123, (0.0023, 0.0223), 0.01, 5), "+0.012 [+0.002, +0.022]"),
        (Difference(-150.0, (-400.0, 100.0), 9, 5), "-150 [-400, +100]"),
        (Difference(0.5, None, 0.0, 1), "+0.50"),
        (Difference(0.0, (0.0, 0.0), 0.0, 3), "+0.0 [+0.0, +0.0]"),
    ],
)
def test_it_is_written_with_its_sign_to_the_second_digit_of_its_uncertainty(given, text):
    assert str(given) == text
