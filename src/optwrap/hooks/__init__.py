"""What acts in a run beside its loop: a hook has the methods that it needs out of a short list (`hook.METHODS`).

Imports plan, optim and what lies below.
"""

from optwrap.hooks.early_stopping import EarlyStopping
from optwrap.hooks.given import Run
from optwrap.hooks.gradient_noise import GradientNoise
from optwrap.hooks.lr_finder import LrFinder
from optwrap.hooks.model_summary import ModelSummary
from optwrap.hooks.pruning import Pruning
from optwrap.hooks.update_ratio import UpdateRatio

__all__ = ["EarlyStopping", "GradientNoise", "LrFinder", "ModelSummary", "Pruning", "Run", "UpdateRatio"]
