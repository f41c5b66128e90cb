"""Experiments that a test writes, beside those of the repository."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from optwrap.config import sources, store
from optwrap.hydra_versions import VERSION_BASE

CONF = Path(__file__).parents[3] / "conf"


@pytest.fixture
def as_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write YAML as an option of the group `experiment`; return its name."""
    (folder := tmp_path / "experiments").mkdir()
    monkeypatch.setattr(sources, "experiments_folder", lambda conf: folder)

    def write(text: str) -> str:
        (folder / "translated.yaml").write_text(text)
        return "translated"

    return write


@pytest.fixture
def compose_experiment(as_experiment: Callable[[str], str]) -> Iterator[Callable[[str], DictConfig]]:
    """Compose an experiment that is given as YAML, and check that every interpolation of its wrapper resolves."""
    store.register()

    def composed(text: str) -> DictConfig:
        cfg = compose("config", [f"experiment={as_experiment(text)}"])
        OmegaConf.to_container(cfg.optim_wrapper, resolve=True)
        return cfg

    with initialize_config_dir(str(CONF), **VERSION_BASE):
        yield composed
