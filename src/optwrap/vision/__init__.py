"""Image classification: data sets, models and the task that trains them.

The names of `__init__.pyi` are loaded where they are first used, since torchvision takes a while.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
