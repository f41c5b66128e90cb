"""How parameters and optimizer state lie in memory."""

import torch
from torch import Tensor
from torch.optim import Optimizer


def lie_alike(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order in memory."""
    strides = zip(first.shape, first.stride(), second.stride(), strict=True)
    return all(size == 1 or one == other for size, one, other in strides)


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one piece of memory, in any order of dimensions."""
    return tensor.layout == torch.strided and lie_alike(tensor, torch.empty_like(tensor, device="meta"))


def align_strides(optimizer: Optimizer) -> None:
    """Lay state out as its parameters are: fused CPU kernels walk both as flat memory."""
    for param, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == param.shape and value.stride() != param.stride():
                state[name] = torch.empty_like(param, dtype=value.dtype).copy_(value)
