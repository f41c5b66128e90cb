import torch

from optwrap.optim import frozen


def test_frozen_passes_gradients_through_and_thaws_only_what_it_froze():
    layer = torch.nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    inputs = torch.ones(1, 2, requires_grad=True)
    with frozen(layer):
        loss = layer(inputs).sum()
    loss.backward()
    assert torch.equal(inputs.grad, layer.weight)
    assert layer.weight.grad is None
    assert (layer.weight.requires_grad, layer.bias.requires_grad) == (True, False)
