"""Passing gradients through a module that does not learn from them, as a GAN's generator does."""

import contextlib
from collections.abc import Iterator

from torch import nn

from optwrap.optim.parallel.sync import no_sync, parallel_modules


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through `module` and leave none in it; run its forward pass inside.

    They would add to those of its own next update. A data-parallel module expects none to average either: else its
    next backward pass would average, inside an accumulation window too.

    >>> import torch
    >>> discriminator, fake = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    >>> with frozen(discriminator):
    ...     loss = discriminator(fake).mean()
    >>> loss.backward()
    >>> fake.grad is None, discriminator.weight.grad is None
    (False, True)
    """
    # Kept: between forward and backward, FSDP2 has other tensors in the place of its parameters.
    trainable = [param for param in module.parameters() if param.requires_grad]
    for param in trainable:
        param.requires_grad_(False)
    try:
        with no_sync(parallel_modules(module)):
            yield
    finally:
        for param in trainable:
            param.requires_grad_(True)
