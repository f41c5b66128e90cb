from collections.abc import Callable
from pathlib import Path

import pytest

_MADE: dict[tuple[str, ...], Path] = {}


@pytest.fixture
def once(train: Callable[..., Path]) -> Callable[..., Path]:
    """The folder of a run to the end, made once a list of overrides; leave it as it is."""

    def find(*overrides: str) -> Path:
        if overrides not in _MADE:
            _MADE[overrides] = train(*overrides)
        return _MADE[overrides]

    return find
