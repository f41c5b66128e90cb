from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from optwrap.loggers.trackers import Named
from optwrap.program.naming import named


@pytest.fixture
def hydra(monkeypatch, tmp_path):
    """Have Hydra say what it says of a run of the repository `digits`, in this mode."""

    def say(mode, sweep="outputs/multirun/2026-01-31/12-00-00"):
        sources = [
            SimpleNamespace(provider="hydra", path="pkg://hydra.conf"),
            SimpleNamespace(provider="main", path="file:///work/digits/conf"),
        ]
        runtime = SimpleNamespace(cwd=str(tmp_path), config_sources=sources)
        config = SimpleNamespace(mode=mode, sweep=SimpleNamespace(dir=sweep), runtime=runtime)
        monkeypatch.setattr(HydraConfig, "get", lambda: config)

    return say


def test_a_run_is_called_as_its_folder(hydra, tmp_path):
    hydra(RunMode.RUN)
    assert named(tmp_path / "mine") == Named("mine", None, "digits")
    assert named(Path("outputs/2026-01-31/12-00-00_2")) == Named("2026-01-31/12-00-00_2", None, "digits")


def test_a_job_is_called_as_in_results_and_its_group_as_the_sweep(hydra, tmp_path):
    hydra(RunMode.MULTIRUN)
    sweep = tmp_path / "outputs/multirun/2026-01-31/12-00-00"
    assert named(sweep / "0f") == Named("0f", "2026-01-31/12-00-00", "digits")
    hydra(RunMode.MULTIRUN, str(tmp_path / "norms"))
    assert named(tmp_path / "norms" / "a" / "0f") == Named("a/0f", "norms", "digits")
