import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import get_total_norm

from optwrap.optim.step.norm import norm_of


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=6), st.sampled_from([1.0, 2.0, 3.0, math.inf]))
def test_it_is_the_norm_over_all_elements(sizes, norm_type):
    grads = [torch.randn(size) for size in sizes]
    expected = torch.linalg.vector_norm(torch.cat([*grads, torch.zeros(1)]).double(), norm_type)
    assert norm_of(grads, norm_type).item() == pytest.approx(expected.item(), rel=1e-6)


def test_order_in_memory_and_number_of_dimensions_do_not_matter():
    images = torch.randn(4, 3, 5, 5)
    grads = [
        images.to(memory_format=torch.channels_last),
        torch.randn(6, 7).t(),
        torch.tensor(3.0),
        torch.randn(9)[::2],
    ]
    expected = torch.cat([grad.reshape(-1) for grad in grads]).norm()
    assert norm_of(grads).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("size", [2**24, 8_000], ids=["one", "many"])
def test_large_gradients_lose_no_precision(size):
    grad = torch.randn(2**24)
    exact = grad.double().norm().item()
    assert norm_of(grad.split(size)).item() == pytest.approx(exact, rel=2e-5)
    assert get_total_norm([grad]).item() != pytest.approx(exact, rel=2e-5)  # torch's own


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (3e30, torch.float32),
        (3e38, torch.float32),
        (6e4, torch.float16),
        (1e30, torch.bfloat16),
    ],
)
def test_it_is_finite_where_every_gradient_is(value, dtype):
    grads = [torch.full((4,), value, dtype=dtype), torch.full((5,), -value, dtype=dtype)]
    held = grads[0][0].item()
    assert norm_of(grads).item() == pytest.approx(3 * held, rel=1e-6)
    if dtype == torch.float32:
        assert get_total_norm(grads).isinf()  # torch's own


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("size", [3, 100_000])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_it_is_not_finite_where_one_gradient_is_not(bad, size, norm_type):
    grads = [torch.ones(5), torch.ones(size)]
    grads[1][-1] = bad
    assert not norm_of(grads, norm_type).isfinite()


def test_dtypes_may_be_mixed():
    grads = [torch.ones(4), torch.ones(5, dtype=torch.bfloat16), torch.ones(7, dtype=torch.float64)]
    assert norm_of(grads).item() == pytest.approx(4.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_gradients_to_differentiate_again_are_measured_without_a_graph(dtype):
    grad = torch.ones(4, dtype=dtype, requires_grad=True)
    norm = norm_of([grad * 2])
    assert norm.item() == pytest.approx(4.0)
    assert not norm.requires_grad


def test_no_gradient_has_norm_zero():
    assert norm_of([]).item() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("value", [1.0, 3e30, math.inf])
def test_cuda_measures_the_same_without_waiting(value):
    grads = [torch.full((4,), value, device="cuda"), torch.full((100_000,), value, device="cuda")]
    torch.cuda.set_sync_debug_mode("error")
    try:
        norm = norm_of(grads)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert norm.item() == pytest.approx(value * 100_004**0.5, rel=1e-5)
