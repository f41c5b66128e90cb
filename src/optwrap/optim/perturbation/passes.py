"""The passes over one micro-batch: which calls of `update_params` count in which."""

from collections.abc import Sequence

from torch import Tensor

from optwrap.errors import ConfigError
from optwrap.optim.perturbation.sam import Sam

_ALONE = (
    "sam: each micro-batch takes two passes. A run makes them; in a loop of your own let "
    "optwrap.optim.in_passes(model, optim_wrapper, step) call the function that ends in update_params."
)


class Passes:
    """A training step that is gone through several times, until every call in it has been made once.

    Of a wrapper with SAM a call climbs the first time, and updates the second time. Calls after one that has
    climbed wait for the next time, calls before it are done and do nothing then.
    """

    def __init__(self) -> None:
        self._done = 0
        self._calls = 0
        self.climbed = False

    def begin(self) -> None:
        """Go through the step once more."""
        self._calls, self.climbed = 0, False

    def role(self, sam: Sam | None) -> str:
        """Return what the next call is for: 'nothing', 'climb' or 'update'."""
        self._calls += 1
        if self.climbed or self._calls <= self._done:
            return "nothing"
        if sam is not None and not sam.has_climbed:
            self.climbed = True
            return "climb"
        self._done += 1
        return "update"


def role_of_call(passes: Passes | None, sam: Sam | None) -> str:
    """Return what a call of `update_params` is for.

    Raises:
        ConfigError: SAM is on, and nobody makes its two passes.
    """
    if passes is not None:
        return passes.role(sam)
    if sam is not None:
        raise ConfigError(_ALONE)
    return "update"


def check_climbed(sam: Sam | None) -> None:
    """Raise ConfigError at a backward pass that SAM's first one has not prepared: it would be plain training."""
    if sam is not None and not sam.has_climbed:
        raise ConfigError(_ALONE)


def climb(sam: Sam, params: Sequence[Tensor], loss: Tensor) -> None:
    """Differentiate `loss` and climb; gradients that `params` have already stay as they were."""
    held = [param.grad for param in params]
    for param in params:
        param.grad = None
    loss.backward()
    sam.climb(params)
    for param, grad in zip(params, held, strict=True):
        param.grad = grad
