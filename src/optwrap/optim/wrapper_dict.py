"""OptimWrapperDict: the wrappers of a model with several optimizers, such as a GAN."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim.assignment.untrained import Untrained
from optwrap.optim.wrapper import OptimWrapper

_TRAINING = ("update_params", "backward", "step", "optim_context", "scale_loss", "should_update")


class NoTrainingMethodError(ConfigError, NotImplementedError, AttributeError):
    """A training method was called on several wrappers at once: a task for one was given several."""


class OptimWrapperDict(Mapping[str, OptimWrapper]):
    """A mapping of wrappers that saves, loads and reports them together; each trains by itself.

    >>> import torch
    >>> gen, disc = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    >>> wrappers = OptimWrapperDict(
    ...     gen=OptimWrapper(torch.optim.SGD(gen.parameters(), lr=0.01)),
    ...     disc=OptimWrapper(torch.optim.SGD(disc.parameters(), lr=0.01)),
    ... )
    >>> wrappers.get_lr()
    {'gen.lr': [0.01], 'disc.lr': [0.01]}
    """

    def __init__(self, **wrappers: OptimWrapper) -> None:
        for name, wrapper in wrappers.items():
            if not isinstance(wrapper, OptimWrapper):
                raise TypeError(f"{name!r} must be an OptimWrapper, not {type(wrapper).__name__}.")
        self._wrappers = dict(wrappers)
        untrained = Untrained([wrapper.optimizer for wrapper in wrappers.values()])
        for wrapper in wrappers.values():
            wrapper.train_beside(untrained)

    def __getitem__(self, name: str) -> OptimWrapper:
        if name not in self._wrappers:
            raise KeyError(f"There is no wrapper {name!r}; there are {', '.join(self._wrappers)}.")
        return self._wrappers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._wrappers)

    def __len__(self) -> int:
        return len(self._wrappers)

    def __repr__(self) -> str:
        return f"OptimWrapperDict({', '.join(f'{name}={wrapper!r}' for name, wrapper in self.items())})"

    def __getattr__(self, name: str) -> NoReturn:
        if name in _TRAINING:
            calls = ", ".join(f"optim_wrapper[{key!r}].{name}(...)" for key in self)
            raise NoTrainingMethodError(
                f"An OptimWrapperDict does not train by itself. Where each has its own loss, call {calls}. One "
                "loss over all of them needs a single wrapper, such as optim_wrapper=sgd with custom_keys for its "
                "parts; several for it take a backward pass each before any steps (docs/strategies.md)."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def param_groups(self) -> dict[str, list[dict[str, Any]]]:
        """The wrappers' param groups by name."""
        return {name: wrapper.param_groups for name, wrapper in self.items()}

    @property
    def defaults(self) -> dict[str, dict[str, Any]]:
        """The options that the optimizers were given, by name."""
        return {name: wrapper.defaults for name, wrapper in self.items()}

    def zero_grad(self, **kwargs: Any) -> None:
        """Zero the gradients of every wrapper."""
        for wrapper in self.values():
            wrapper.zero_grad(**kwargs)

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int | None) -> None:
        """Call it on every wrapper: each counts its own micro-batches."""
        for wrapper in self.values():
            wrapper.initialize_count_status(model, init_counts, max_counts)

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Evaluate inside: every wrapper's weights are those to evaluate."""
        with ExitStack() as stack:
            for wrapper in self.values():
                stack.enter_context(wrapper.evaluation_weights())
            yield

    def get_lr(self) -> dict[str, list[float]]:
        """Return `{'<name>.lr': [...], ...}`, one entry a param group."""
        return {f"{name}.{key}": lr for name, w in self.items() for key, lr in w.get_lr().items()}

    def get_momentum(self) -> dict[str, list[float]]:
        """Return `{'<name>.momentum': [...], ...}`, one entry a param group."""
        return {f"{name}.{key}": m for name, w in self.items() for key, m in w.get_momentum().items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the wrappers' state dicts by name."""
        return {name: wrapper.state_dict() for name, wrapper in self.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load every wrapper's state.

        Raises:
            KeyError: a name is missing or left over; nothing is loaded then.
        """
        missing, extra = sorted(set(self) - set(state_dict)), sorted(set(state_dict) - set(self))
        if missing or extra:
            raise KeyError(f"The state dict lacks {missing} and has {extra} too many; it needs {sorted(self)}.")
        for name, wrapper in self.items():
            wrapper.load_state_dict(state_dict[name])


def named_wrappers(optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, OptimWrapper]:
    """Return the wrappers by the prefix of their columns: '' for a single one, 'name.' for one of several."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        return {f"{name}.": wrapper for name, wrapper in optim_wrapper.items()}
    return {"": optim_wrapper}
