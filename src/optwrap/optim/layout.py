"""How optimizer state lies in memory."""

import torch
from torch import Tensor
from torch.optim import Optimizer


def align_strides(optimizer: Optimizer) -> None:
    """Lay loaded state out as its parameters are: fused CPU kernels walk both as flat memory."""
    for param, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == param.shape and value.stride() != param.stride():
                state[name] = torch.empty_like(param, dtype=value.dtype).copy_(value)
