"""Jobs compared: tables, pictures and a page over all runs in a folder.

Imports the records and names of sweep, and nothing else of it. `make_report` is loaded where it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
