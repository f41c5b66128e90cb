import logging
from types import SimpleNamespace

import pytest

from optwrap.errors import ConfigError
from optwrap.program.log_file import LogFile


@pytest.fixture
def folder(tmp_path, monkeypatch):
    config = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(tmp_path / "run")))
    monkeypatch.setattr("hydra.core.hydra_config.HydraConfig.get", lambda: config)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_it_writes_into_the_run_s_folder(folder):
    handler = LogFile(str(folder / "train.log"))
    handler.handle(logging.makeLogRecord({"msg": "läuft"}))
    handler.close()
    assert (folder / "train.log").read_text(encoding="utf-8") == "läuft\n"


def test_a_file_elsewhere_is_an_error_and_is_not_made(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for name in ("train.log", str(folder / "../train.log"), str(folder)):
        with pytest.raises(ConfigError, match="not in the run's folder"):
            LogFile(name)
    assert [path.name for path in folder.parent.iterdir()] == ["run"]


def test_a_link_out_of_the_folder_is_not_followed(folder):
    (folder / "train.log").symlink_to(folder.parent / "profile")
    with pytest.raises(ConfigError, match="not in the run's folder"):
        LogFile(str(folder / "train.log"))
    assert not (folder.parent / "profile").exists()
