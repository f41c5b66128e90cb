"""Long lists of cases."""

from typing import Any

import pytest


def every_other(cases: list[Any], ids: list[str]) -> list[Any]:
    """Return the cases of a long list as parameters of a test, every other one among the slow tests alone."""
    marks: list[list[Any]] = [[], [pytest.mark.slow]]
    return [
        pytest.param(*case, id=name, marks=marks[i % 2])
        for i, (case, name) in enumerate(zip(cases, ids, strict=True))
    ]
