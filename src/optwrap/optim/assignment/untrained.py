"""Parameters that look trainable and are in no param group."""

import logging
from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from optwrap.optim.assignment.params import walk

logger = logging.getLogger(__name__)

_SHOWN = 8


class Untrained:
    """Says, once for each, which trainable parameters of a model are in no param group of some optimizers."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = list(optimizers)
        self._said: list[Tensor] = []

    def exchange(self, old: Optimizer, new: Optimizer) -> None:
        """Know of `new` in place of `old`."""
        self._optimizers = [new if each is old else each for each in self._optimizers]

    def look(self, model: nn.Module) -> None:
        """Log a warning that names them; a model of which nothing is in a group is someone else's."""
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        known = {id(param) for group in groups for param in group["params"]}
        params = list(model.parameters())
        if not any(id(param) in known for param in params):
            return
        known.update(map(id, self._said))
        missing = [param for param in params if param.requires_grad and id(param) not in known]
        if not missing:
            return
        self._said += missing
        ids = set(map(id, missing))
        names = [param.name for param in walk(model) if id(param.tensor) in ids]
        some = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        logger.warning(
            "Not trained, since they are in no param group: %s. Replace and unfreeze layers before the wrapper is "
            "built, or freeze them; where another wrapper trains them, put both into an OptimWrapperDict.",
            some,
        )
