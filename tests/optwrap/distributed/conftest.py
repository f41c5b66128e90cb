from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.optwrap.distributed.harness import run_ranks


@pytest.fixture(scope="session")
def ranks() -> Callable[[int, Sequence[Sequence[str]], Path], None]:
    """Run command lines on several ranks; all must end well."""

    def run(size: int, jobs: Sequence[Sequence[str]], scratch: Path) -> None:
        ends = run_ranks(size, jobs, scratch)
        assert [code for code, _ in ends] == [0] * size, "\n".join(error for _, error in ends)

    return run
