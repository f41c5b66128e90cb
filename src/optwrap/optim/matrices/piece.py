"""A parameter and its matrices, which an optimizer steps in the parameter's place."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optwrap.optim.assignment.hidden.cut import Cut
from optwrap.optim.matrices.states import join_states, split_state


class Piece:
    """A parameter, seen as its matrices: as views of it, or as copies where it lies so that there are none.

    `matrices` stay the same objects, whatever memory the parameter moves to.

    Args:
        cut: how; None, as where the parameter is its only matrix: it takes its own place.
        stand_ins: whether the matrices are to have shapes alone.
    """

    def __init__(self, param: Tensor, cut: Cut | None, stand_ins: bool = False) -> None:
        self.param, self.cut = param, cut or Cut()
        self.is_whole = cut is None or cut.is_whole(param)
        source = torch.empty(param.shape, device="meta") if stand_ins else param.detach()
        self.matrices = [param] if self.is_whole else [nn.Parameter(each) for each in self.cut(source)]
        self._are_copies = False
        self._where: tuple[Any, ...] | None = None
        self._known: list[Any] | None = None

    def put_on(self) -> None:
        """Give the matrices the values of the parameter, and of its gradient."""
        if self.is_whole:
            return
        param = self.param
        where = (param.data_ptr(), param.stride(), param.dtype, param.device)
        if where != self._where or self._are_copies:
            self._look()
            self._where = where
        grads: Sequence[Tensor | None] = [None] * len(self.matrices)
        if param.grad is not None:
            grads = self.cut(param.grad)
        for matrix, grad in zip(self.matrices, grads, strict=True):
            matrix.grad = grad

    def _look(self) -> None:
        data = self.param.detach()
        views = self.cut.views(data)
        self._are_copies = views is None
        for matrix, part in zip(self.matrices, self.cut(data) if views is None else views, strict=True):
            matrix.data = part

    def take_off(self) -> None:
        """Give the parameter the values of its matrices."""
        if self.is_whole:
            return
        for matrix in self.matrices:
            matrix.grad = None  # it would live on after zero_grad
        if self._are_copies:
            flat = torch.empty(self.param.shape, dtype=self.param.dtype, device=self.param.device)
            for part, matrix in zip(self.cut(flat), self.matrices, strict=True):
                part.copy_(matrix.detach())
            self.param.detach().copy_(flat)

    def put_state(self, own: dict[str, Any] | None, inner: dict[Tensor, dict[str, Any]]) -> None:
        """Give the matrices the state of the parameter, where it is not what they have."""
        if self.is_whole:
            if own is None:
                inner.pop(self.param, None)
            elif inner.get(self.param) is not own:
                inner[self.param] = own
            return
        if self._known is not None and _same(self._values(own), self._known):
            return
        for matrix in self.matrices:
            inner.pop(matrix, None)
        if own is not None:
            for name, value in own.items():  # laid out as a channels_last parameter is, it has no views
                if isinstance(value, Tensor) and value.shape == self.param.shape:
                    own[name] = value.contiguous()
            states = split_state(own, self.cut, self.param.shape, len(self.matrices))
            inner.update(zip(self.matrices, states, strict=True))
        self._remember(own, inner)

    def take_state(self, outer: dict[Tensor, dict[str, Any]], inner: dict[Tensor, dict[str, Any]]) -> None:
        """Give the parameter the state of its matrices, where a step has made it or put another in its place."""
        if self.is_whole:
            if self.param in inner:
                outer[self.param] = inner[self.param]
            return
        if not any(matrix in inner for matrix in self.matrices):
            return
        states = [inner[matrix] for matrix in self.matrices]
        if _same([value for state in states for value in state.values()], self._of_matrices):
            return
        outer[self.param] = join_states(states, self.cut, self.param.shape)
        self._remember(outer[self.param], inner)

    def forget(self) -> None:
        """Look at the parameter and its state anew: the objects are others, as in a copy."""
        self._where = self._known = None

    def _remember(self, own: dict[str, Any] | None, inner: dict[Tensor, dict[str, Any]]) -> None:
        self._known = self._values(own)
        self._of_matrices = [value for each in self.matrices for value in inner.get(each, {}).values()]

    @staticmethod
    def _values(own: dict[str, Any] | None) -> list[Any]:
        return [own, *own.values()] if own is not None else [None]


def _same(now: Sequence[Any], before: Sequence[Any]) -> bool:
    return len(now) == len(before) and all(one is other for one, other in zip(now, before, strict=True))
