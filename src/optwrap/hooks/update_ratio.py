"""How far updates move the weights, beside how large these are: by param group, or by names."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from optwrap.errors import ConfigError, did_you_mean
from optwrap.hooks.given import Run
from optwrap.optim import OptimWrapper, walk
from optwrap.optim.step.clip import total_norm
from optwrap.optim.step.norm import norm_of
from optwrap.optim.wrapper_dict import named_wrappers


class UpdateRatio:
    """Records, with each training row, of each part of the weights the norm of their update over their own norm.

    Beside it stands the norm of their gradient as the optimizer took it: unscaled, averaged and clipped. A skipped
    step leaves empty cells, and so do weights that were all zero. An update with a row costs a copy of the
    weights; others cost nothing.

    Args:
        patterns: parts of parameter names, each a part of the weights; a parameter belongs to the longest that its
            name contains, or to `rest`. None: the param groups, `group0` and on, as param_groups.csv has them.
    """

    def __init__(self, patterns: Sequence[str] | None = None) -> None:
        self._patterns = patterns
        self._parts: dict[str, dict[str, list[Tensor]]] = {}  # part -> wrapper -> its parameters
        self._wrappers: dict[str, OptimWrapper] = {}
        self._weights: dict[int, Tensor] = {}
        self._updates: dict[str, int] = {}
        self._squares: dict[tuple[str, str], Tensor] = {}
        self._calls: list[tuple[OptimWrapper, Callable[[], None]]] = []

    def start(self, run: Run) -> None:
        """Sort the parameters into parts."""
        self._wrappers = named_wrappers(run.optim_wrapper)
        self._parts = self._by_group() if self._patterns is None else self._by_name(run)

    def before_update(self, run: Run) -> None:
        """Copy the weights where a row is due."""
        self._release()
        if not run.logs_next_update:
            return
        self._updates = {name: wrapper.updates for name, wrapper in self._wrappers.items()}
        for name, wrapper in self._wrappers.items():
            self._calls.append((wrapper, partial(self._measure_gradients, name)))
            wrapper.after_step.append(self._calls[-1][1])
        self._weights = {
            id(param): param.detach().clone()
            for members in self._parts.values()
            for params in members.values()
            for param in params
        }

    def after_update(self, run: Run) -> None:
        """Compare."""
        if not self._weights:
            return
        stepped = [name for name, wrapper in self._wrappers.items() if wrapper.updates > self._updates[name]]
        for part, members in self._parts.items():
            params = [param for name in stepped for param in members.get(name, ())]
            if params:
                run.record(part, self._ratio(params))
                squares = [self._squares[name, part] for name in stepped if (name, part) in self._squares]
                run.record(f"{part}.grad_norm", torch.stack(squares).sum().sqrt().item() if squares else None)
        self._release()

    @torch.no_grad()
    def _ratio(self, params: list[Tensor]) -> float | None:
        before = [self._weights[id(param)] for param in params]
        weight = norm_of(before).item()
        update = norm_of([param.detach() - old for param, old in zip(params, before, strict=True)]).item()
        return update / weight if weight else None

    def _measure_gradients(self, wrapper: str) -> None:
        for part, members in self._parts.items():
            filled = [param for param in members.get(wrapper, ()) if param.grad is not None]
            if filled:
                self._squares[wrapper, part] = total_norm(filled) ** 2

    def _release(self) -> None:
        while self._calls:
            wrapper, call = self._calls.pop()
            wrapper.after_step.remove(call)
        self._weights.clear()
        self._squares.clear()

    def _by_group(self) -> dict[str, dict[str, list[Tensor]]]:
        return {
            f"{name}group{i}": {name: list(group["params"])}
            for name, wrapper in self._wrappers.items()
            for i, group in enumerate(wrapper.param_groups)
        }

    def _by_name(self, run: Run) -> dict[str, dict[str, list[Tensor]]]:
        patterns = sorted(self._patterns or (), key=len, reverse=True)
        parts: dict[str, dict[str, list[Tensor]]] = {pattern: {} for pattern in (*(self._patterns or ()), "rest")}
        names = {id(param.tensor): param.name for param in walk(run.model)}
        for wrapper, its in self._wrappers.items():
            for param in (param for group in its.param_groups for param in group["params"]):
                name = names[id(param)]
                part = next((pattern for pattern in patterns if pattern in name), "rest")
                parts[part].setdefault(wrapper, []).append(param)
        for pattern in patterns:
            if not parts[pattern]:
                words = {word for name in names.values() for word in (name, *name.split("."))}
                raise ConfigError(
                    f"hooks.{run.key}.patterns: {pattern!r} is the longest match of no trained parameter."
                    f"{did_you_mean(pattern, words)}"
                )
        return {part: members for part, members in parts.items() if members}
