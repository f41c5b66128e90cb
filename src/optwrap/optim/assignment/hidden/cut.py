"""How a parameter is seen as matrices: convolutions flattened, experts one by one, fused projections in parts."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from optwrap.optim.assignment.params import NamedParam

LEAST = 4  # rows and columns of a matrix: one of fewer is rather a few vectors, as a convolution of RGB images is


@dataclass(frozen=True)
class Cut:
    """The matrices that a parameter is made of.

    Args:
        stacked: the first dimension counts matrices, as a batch of experts does; else the first dimension is the
            rows of one matrix, and all others together are its columns.
        sizes: each matrix is cut along `dim` into parts of so many rows or columns; empty: it stays whole.

    >>> [tuple(part.shape) for part in Cut()(torch.zeros(8, 4, 3, 3))]
    [(8, 36)]
    >>> [tuple(part.shape) for part in Cut(stacked=True, sizes=(5, 3))(torch.zeros(2, 8, 6))]
    [(5, 6), (3, 6), (5, 6), (3, 6)]
    """

    stacked: bool = False
    sizes: tuple[int, ...] = ()
    dim: int = 0

    def __call__(self, tensor: Tensor) -> list[Tensor]:
        """Return the matrices of a parameter, its gradient or its state: views, or copies where there are none."""
        wholes = list(tensor.unbind(0)) if self.stacked else [tensor.flatten(1)]
        if not self.sizes:
            return wholes
        return [part for whole in wholes for part in whole.split(self.sizes, self.dim)]

    def views(self, tensor: Tensor) -> list[Tensor] | None:
        """Return the matrices as views; None where the tensor lies so that a flattened one is a copy."""
        if not self.stacked and tensor.ndim > 2:
            try:
                tensor = tensor.view(len(tensor), -1)
            except RuntimeError:  # channels_last
                return None
        return self(tensor)

    def is_whole(self, tensor: Tensor) -> bool:
        """Whether the parameter is its only matrix, as it stands."""
        return tensor.ndim == 2 and not self.stacked and not self.sizes


@dataclass(frozen=True)
class Hidden:
    """A parameter that is made of hidden matrices, and how it is cut into them."""

    param: NamedParam
    cut: Cut = Cut()


Cuts = Mapping[Tensor, Cut | None]
"""How parameters are cut; None: an optimizer takes them as they are."""


def shapes(cut: Cut | None, tensor: Tensor) -> list[torch.Size]:
    """Return the shapes of the matrices of a parameter, sharded or not.

    >>> shapes(Cut(sizes=(2, 1), dim=1), torch.zeros(4, 3))
    [torch.Size([4, 2]), torch.Size([4, 1])]
    """
    whole = torch.empty(tensor.shape, device="meta")
    return [part.shape for part in (cut(whole) if cut else [whole])]
