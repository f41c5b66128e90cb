"""How often each wrapper is called for a batch of data: a critic twice, a generator at every fifth."""

import logging
from collections.abc import Mapping

from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper, OptimWrapperDict
from optwrap.optim.window.counts import calls_in
from optwrap.optim.wrapper_dict import named_wrappers

logger = logging.getLogger(__name__)


def begin(
    optim_wrapper: OptimWrapper | OptimWrapperDict,
    model: nn.Module,
    batches: int,
    done: int = 0,
    counted: Mapping[str, int] | None = None,
) -> None:
    """Tell each wrapper its micro-batches, all and so far, in a run of `batches` of which `done` are done.

    `counted` has what wrappers had counted by then, by prefix; left out, it is what they have counted now. Where
    that is not the place (the run goes on under another batch size), the plan says how many they were.
    """
    for name, wrapper in named_wrappers(optim_wrapper).items():
        behind = wrapper.inner_count if counted is None else counted[name]
        if abs(_ahead(wrapper, behind, done)) >= 1:
            behind = round(done * wrapper.calls_per_batch)
        wrapper.initialize_count_status(model, behind, calls_in(batches, wrapper.calls_per_batch))


class CallCheck:
    """Compares how often wrappers are called with what their configs say.

    Raises:
        ConfigError: one is called more often: its schedule and its last window would end in the middle of the run.
    """

    def __init__(self, wrappers: Mapping[str, OptimWrapper]) -> None:
        self._wrappers = dict(wrappers)

    def __call__(self, count: int) -> None:
        """Look at the wrappers after batch `count`; less calls than planned are a warning, once."""
        for name, wrapper in list(self._wrappers.items()):
            ahead = _ahead(wrapper, wrapper.inner_count, count)
            if abs(ahead) < 1:
                continue
            key = f"optim_wrapper.{name}calls_per_batch"
            found = (
                f"{key}={wrapper.calls_per_batch:g}: update_params was called {wrapper.inner_count} times in "
                f"{count} batch{'es' * (count > 1)}. Set {key} to its calls for a batch (0.2: one in "
                "five)"
            )
            if ahead > 0:
                raise ConfigError(f"{found}.")
            logger.warning("%s; schedules, and windows at the end of the run, go by it.", found)
            del self._wrappers[name]


def _ahead(wrapper: OptimWrapper, calls: int, batches: int) -> float:
    """Return by how many calls a wrapper is ahead of its plan; below 1 it fits, whichever batch it skips."""
    return round(calls - batches * wrapper.calls_per_batch, 6)
