"""Long lists of cases."""

from collections.abc import Sequence
from typing import Any

import pytest


def one_in(every: int, cases: Sequence[Any], ids: Sequence[str] | None = None) -> list[Any]:
    """Return the cases of a long list as parameters of a test: one in so many, the others among the slow tests.

    A case is a tuple of arguments, or a single one.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            id=None if ids is None else ids[i],
            marks=[pytest.mark.slow] if i % every else [],
        )
        for i, case in enumerate(cases)
    ]
