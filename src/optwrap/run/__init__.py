"""What the loop in `train.py` calls: the run's course, data, strategy, saving and evaluation.

The top floor: it imports everything below it, and programs alone import it. The names of `__init__.pyi` are loaded
where they are first used (https://scientific-python.org/specs/spec-0001), since completion answers without torch.
"""

from typing import Any

import lazy_loader

from optwrap.program.entry import load_torch

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        load_torch()
    return _load(name)
