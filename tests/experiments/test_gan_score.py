import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.gan_score import EffectiveClasses, FrechetDistance, frechet_distance, train_classifier
from optwrap.vision import digits

means = st.floats(-5, 5)
deviations = st.floats(0.1, 5)


def standardised(count, dim, seed):
    """Return vectors whose mean is 0 and whose covariance is the identity, up to rounding."""
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows -= rows.mean(dim=0)
    return torch.linalg.qr(rows).Q * math.sqrt(count)


@given(means, deviations, means, deviations)
def test_in_one_dimension_it_is_the_distance_of_mean_and_deviation(mean1, std1, mean2, std2):
    first, second = mean1 + std1 * standardised(50, 1, 0), mean2 + std2 * standardised(80, 1, 1)
    expected = (mean1 - mean2) ** 2 + (std1 - std2) ** 2
    assert frechet_distance(first, second).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_with_covariances_that_do_not_commute_it_agrees_with_the_formula():
    stretch1 = torch.tensor([[2.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
    stretch2 = torch.tensor([[1.0, 0.0], [-1.5, 0.7]], dtype=torch.float64)
    first, second = standardised(100, 2, 0) @ stretch1, standardised(100, 2, 1) @ stretch2 + 3
    product = stretch1.T @ stretch1 @ stretch2.T @ stretch2
    # of a 2x2 matrix: trace(root) = sqrt(trace + 2 sqrt(det))
    root = math.sqrt(product.trace() + 2 * math.sqrt(torch.linalg.det(product)))
    expected = 2 * 3**2 + stretch1.square().sum() + stretch2.square().sum() - 2 * root
    assert frechet_distance(first, second).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_set_has_no_distance_from_itself_even_with_constant_features():
    features = torch.cat([torch.randn(100, 5), torch.ones(100, 3)], dim=1)
    assert frechet_distance(features, features.flip(0)).item() == pytest.approx(0, abs=1e-5)


def test_the_metric_takes_batches_and_forgets_them_on_reset():
    first, second = torch.randn(60, 4), 2 * torch.randn(60, 4) + 1
    metric = FrechetDistance()
    metric.update(torch.randn(9, 4), torch.randn(9, 4))
    metric.reset()
    for rows in torch.arange(60).split(25):
        metric.update(first[rows], second[rows])
    assert metric.compute() == frechet_distance(first, second)


@pytest.mark.parametrize(("labels", "expected"), [([3] * 8, 1), ([0, 1] * 4, 2), (range(10), 10)])
def test_effective_classes_counts_classes_of_equal_frequency(labels, expected):
    metric = EffectiveClasses(10)
    metric.update(torch.tensor(list(labels)))
    assert metric.compute().item() == pytest.approx(expected, rel=1e-5)


def test_the_classifier_is_the_same_whatever_the_seed_and_leaves_random_numbers_alone(assert_equal):
    data, device = digits(augment=False), torch.device("cpu")
    torch.manual_seed(1)
    first = train_classifier(data, 10, epochs=1, width=4, device=device)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    second = train_classifier(data, 10, epochs=1, width=4, device=device)
    assert_equal(first, second)
    assert not first.training
