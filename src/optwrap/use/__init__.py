"""What is made of a finished run: its evaluation, predictions, pictures of the worst samples, exported models.

Imports run, checkpoint and what lies below. Programs take the names of `__init__.pyi`, which are loaded where they
are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
