"""What is saved of a run, and how it comes back: files, shards, and the state of every part.

Imports program, record, plan, optim and what lies below. Programs take the names of `__init__.pyi`, which are
loaded where they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
