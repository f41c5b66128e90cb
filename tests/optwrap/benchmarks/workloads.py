"""Models to time, with gradients as a backward pass leaves them."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
import torchvision
from torch import Tensor, nn


class Bag(nn.Module):
    """Many small parameters: weights of 8 x 8 and norm layers, in equal numbers."""

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(parameters // 2))
        self.norms = nn.ModuleList(nn.LayerNorm(64, bias=False) for _ in range(parameters // 2))


def tiny() -> nn.Module:
    """Return a model whose iteration is mostly overhead: 3 layers, 9,000 parameters."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50": lambda: torchvision.models.resnet50(),
    "ViT-B/16": lambda: torchvision.models.vit_b_16(),
    "tiny": tiny,
    "2,000 small": lambda: Bag(2000),
}
# weight_decay, for the rules of paramwise_cfg; a lr that leaves the weights as they are, however often they step
OPTIMIZERS = {
    "SGD": {"lr": 1e-9, "momentum": 0.9, "weight_decay": 1e-4},
    "AdamW": {"lr": 1e-9, "weight_decay": 0.05},
}
TOUCHES = {"SGD": 5, "AdamW": 7}  # reads and writes of a whole step, an element: parameter, gradient and state


class Gradients:
    """Fills the gradients of `params` with the same random values again and again, of the total norm `norm`."""

    def __init__(self, params: list[Tensor], norm: float = 1.0) -> None:
        self._params = params
        values = [torch.randn_like(param) for param in params]
        total = torch.linalg.vector_norm(torch.stack([value.norm() for value in values]))
        self._values = [value * (norm / total) for value in values]
        for param, value in zip(params, self._values, strict=True):
            param.grad = value.clone()

    def fill(self) -> None:
        """Undo what a step did to the gradients."""
        for param, value in zip(self._params, self._values, strict=True):
            assert param.grad is not None
            param.grad.copy_(value)


def has(package: str) -> bool:
    """Whether a package is installed."""
    return find_spec(package) is not None
