"""What acts in a run beside its loop: a hook has the methods that it needs out of a short list (`hook.METHODS`).

Imports plan, optim and what lies below.
"""

from optwrap.hooks.early_stopping import EarlyStopping
from optwrap.hooks.given import Run

__all__ = ["EarlyStopping", "Run"]
