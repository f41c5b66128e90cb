"""OnMatrices: an optimizer that steps the matrices of its parameters."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Muon, Optimizer

from optwrap.errors import ConfigError
from optwrap.optim.assignment.hidden.cut import Cuts
from optwrap.optim.matrices.gathered import step_gathered
from optwrap.optim.matrices.piece import Piece
from optwrap.optim.parallel.sharding import is_sharded
from optwrap.optim.step.fused import FusedKernel
from optwrap.optim.step.gathered_step import aside

Groups = list[dict[str, Any]]


class OnMatrices(Optimizer):
    """Any optimizer, on the matrices that parameters are made of: flattened convolutions, experts one by one.

    Its param groups and its state are those of the parameters. A step is that of `inner` on the matrices: views
    of a parameter and its gradient, or copies where there are no views (`channels_last`).

    Args:
        inner: the optimizer, whose param groups hold the matrices.
        groups: the param groups of the parameters, in the same order.
        pieces: how each parameter is cut into the matrices that `inner` has; of sharded ones they are made anew.
    """

    def __init__(
        self, inner: Optimizer, groups: Sequence[Mapping[str, Any]], pieces: Mapping[Tensor, Piece]
    ) -> None:
        self.inner, self._pieces = inner, dict(pieces)
        self.sharded = is_sharded(list(pieces))
        self._kernel = FusedKernel(inner)
        for own, group in zip(inner.param_groups, groups, strict=True):
            own["params"] = list(group["params"])
        super().__init__(inner.param_groups, {})
        self.defaults = inner.defaults

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step the matrices of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.sharded:
            self.inner.param_groups = self.param_groups
            step_gathered(self.inner, {param: piece.cut for param, piece in self._pieces.items()}, self.state)
        else:
            with self.presented():
                self._kernel.step()
        return loss

    @contextlib.contextmanager
    def presented(self) -> Iterator[None]:
        """Let the inner optimizer have matrices, with their gradients and state, in the place of parameters."""
        pieces = [self._pieces[param] for group in self.param_groups for param in group["params"]]
        self.inner.param_groups = self.param_groups
        for piece in pieces:
            piece.put_on()
            piece.put_state(self.state.get(piece.param), self.inner.state)
        try:
            with aside(self.param_groups) as held:
                for group, params in held:
                    group["params"] = _matrices_of(params, self._pieces)
                yield
        finally:
            for piece in pieces:
                piece.take_off()
                piece.take_state(self.state, self.inner.state)

    def compile_step(self, **kwargs: Any) -> None:
        """Compile the step of the inner optimizer, unless its parameters are sharded."""
        if not self.sharded:
            self.inner.param_groups = self.param_groups
            self._kernel.compile(**kwargs)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused once it is built: how to cut the new parameters is not said.

        Raises:
            NotImplementedError: always, after the construction.
        """
        if not any(param_group is group for group in self.inner.param_groups):
            raise NotImplementedError("Build a new OnMatrices with the group.")
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("inner", "sharded", "_pieces", "_kernel")}
        return super().__getstate__() | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for piece in self._pieces.values():  # what is known of tensors holds for other objects
            piece.forget()


class SwitchingOnMatrices(OnMatrices):
    """OnMatrices around an optimizer that trains other weights than those to evaluate (a schedule-free one)."""

    @torch.no_grad()
    def train(self) -> None:
        """Give the parameters the weights to train."""
        with self.presented():
            self.inner.train()  # type: ignore[attr-defined]

    @torch.no_grad()
    def eval(self) -> None:
        """Give the parameters the weights to evaluate."""
        with self.presented():
            self.inner.eval()  # type: ignore[attr-defined]


def on_matrices(build: Callable[[Groups], Optimizer], groups: Groups, cuts: Cuts) -> Optimizer:
    """Build an optimizer of param groups, on the matrices of parameters where those are no matrices themselves.

    Args:
        build: makes an optimizer from param groups.
        groups: param groups of parameters.
        cuts: how to cut parameters; None, or no entry: the optimizer takes the parameter as it is.

    Raises:
        ConfigError: parameters are sharded (FSDP2), and the optimizer is not torch's Muon.

    >>> from torch import nn
    >>> from optwrap.optim.assignment.hidden.cut import Cut
    >>> conv = nn.Conv2d(4, 8, 3)
    >>> optimizer = on_matrices(torch.optim.Muon, [{"params": [conv.weight]}], {conv.weight: Cut()})
    >>> conv(torch.ones(1, 4, 3, 3)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.state[conv.weight]["momentum_buffer"].shape
    torch.Size([8, 4, 3, 3])
    """
    params = [param for group in groups for param in group["params"]]
    its_cuts = {param: cuts.get(param) for param in params}
    if all(cut is None or cut.is_whole(param) for param, cut in its_cuts.items()):
        return build(groups)
    sharded = is_sharded(params)
    pieces = {param: Piece(param, cut, stand_ins=sharded) for param, cut in its_cuts.items()}
    inner = build([{**group, "params": _matrices_of(group["params"], pieces)} for group in groups])
    if sharded and not isinstance(inner, Muon):
        raise ConfigError(
            f"optim_wrapper.hidden_optimizer: {type(inner).__name__} cannot step convolutions, experts or parts "
            "of sharded parameters as matrices, torch.optim.Muon can. Or keep parameters whole (strategy=ddp), or "
            "leave convolutions to optim_wrapper.optimizer (optim_wrapper.hidden_convolutions=false)."
        )
    switches = callable(getattr(inner, "train", None)) and callable(getattr(inner, "eval", None))
    return (SwitchingOnMatrices if switches else OnMatrices)(inner, groups, pieces)


def _matrices_of(params: Sequence[Tensor], pieces: Mapping[Tensor, Piece]) -> list[Tensor]:
    return [matrix for param in params for matrix in pieces[param].matrices]


def class_of(optimizer: Optimizer) -> type[Optimizer]:
    """Return the class that steps: of an OnMatrices that of the optimizer inside."""
    return type(optimizer.inner) if isinstance(optimizer, OnMatrices) else type(optimizer)
