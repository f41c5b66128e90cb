"""A process from its command line to its end: composing, launching ranks, signals, the run's folder.

Imports record, plan, sweep, config and what lies below; of the loop in `train.py` it knows nothing.
"""

from optwrap.program.entry import main, script, split_arguments
from optwrap.program.interruption import Interruption

__all__ = ["Interruption", "main", "script", "split_arguments"]
