"""Fixtures of the library's tests: models, batches, and what compares them."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn


class ToyModel(nn.Module):
    """The model of the reference's paramwise examples."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"layer0": nn.Linear(1, 1), "layer1": nn.Linear(1, 1)})
        self.head = nn.Sequential()
        self.head.add_module("linear", nn.Linear(1, 1))
        self.head.add_module("bn", nn.BatchNorm1d(1))


@pytest.fixture
def toy_model() -> nn.Module:
    return ToyModel()


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 3))


@pytest.fixture
def twins() -> tuple[nn.Module, nn.Module]:
    """Two equal models: one for the wrapper, one for plain PyTorch."""
    model = _mlp()
    return model, copy.deepcopy(model)


@pytest.fixture
def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Eight batches for the twins."""
    return [(torch.randn(6, 4), torch.randint(3, (6,))) for _ in range(8)]


@pytest.fixture
def loss_of() -> Callable[[nn.Module, tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return F.cross_entropy(model(batch[0]).float(), batch[1])

    return loss


@pytest.fixture
def assert_close() -> Callable[[nn.Module, nn.Module], None]:
    def check(first: nn.Module, second: nn.Module) -> None:
        """Every parameter and buffer, looked up by name, is the same to float32's tolerance."""
        torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=1e-5, atol=1e-6)

    return check
