"""Composes the repository's own configs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from optwrap.config import store
from optwrap.hydra_versions import VERSION_BASE

CONF = Path(__file__).parents[3] / "conf"


@pytest.fixture
def conf() -> Path:
    return CONF


@pytest.fixture
def orders() -> Callable[[list[str]], list[list[str]]]:
    """Orders of a list in which each item comes before and after each other, first and last."""

    def rotations(items: list[str]) -> list[list[str]]:
        return [items[start:] + items[:start] for start in range(len(items))]

    return lambda items: rotations(items) + rotations(items[::-1])


@pytest.fixture(scope="module")
def composed() -> Iterator[Callable[..., DictConfig]]:
    """Compose conf/config.yaml with overrides."""
    store.register()
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        yield lambda *overrides: compose("config", list(overrides))
