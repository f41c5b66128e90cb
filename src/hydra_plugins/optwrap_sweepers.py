"""Where Hydra looks for sweepers: it takes them from this package alone."""

from optwrap.sweep.grid import Grid
from optwrap.sweep.search.sweeper import SearchSweep


class GridSweeper(Grid):
    """`hydra/sweeper=grid`: every combination."""


class SearchSweeper(SearchSweep):
    """`hydra/sweeper=search`: what Optuna suggests."""
