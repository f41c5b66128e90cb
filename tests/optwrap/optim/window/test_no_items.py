import pytest
import torch
from torch import nn

from optwrap.optim.window.no_items import masked


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
def test_a_choice_on_the_device_zeroes_the_gradients_or_leaves_them(sparse, empty):
    embedding = nn.Embedding(4, 2, sparse=sparse)
    loss = embedding(torch.tensor([1, 1, 3])).sum() / torch.tensor(0.0 if empty else 2.0)
    weighed = loss * torch.tensor(0.0 if empty else 1.0)
    handles = masked(loss, weighed, torch.tensor(empty))
    weighed.backward()
    for handle in handles:
        handle.remove()
    expected = torch.zeros(4, 2)
    if not empty:
        expected[1], expected[3] = 1.0, 0.5
    grad = embedding.weight.grad
    assert grad.is_sparse is sparse
    assert torch.equal(grad.to_dense() if sparse else grad, expected)
