"""The hook that stamps the updates of `train.py`."""

from typing import Any

from tests.optwrap.benchmarks.jobs.stamps import Stamps


class Stamped:
    """Reports at the end of a run when its updates were done."""

    def __init__(self) -> None:
        self._stamps = Stamps()

    def after_update(self, run: Any) -> None:
        """Note the time."""
        self._stamps.update()

    def end(self, run: Any) -> None:
        """Print them."""
        self._stamps.report()
