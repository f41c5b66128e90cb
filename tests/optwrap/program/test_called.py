import json

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from optwrap.config import store
from optwrap.config.saved_overrides import SAVED
from optwrap.errors import ConfigError
from optwrap.hydra_versions import VERSION_BASE
from tests.pages import IS_TEMPLATE, ROOT, blocks, section

QUICK = ["max_updates=2", "batch_size=32", "device=cpu", "debug.fast_dev_run=true"]


@pytest.fixture(autouse=True)
def _as_in_a_new_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # what the last program in this process has left
    monkeypatch.setattr("optwrap.record.folder_writer.plot_curves", lambda metrics, path: path.touch())


@pytest.fixture
def composed():
    """Compose a config as a notebook does."""
    store.register()

    def composed(*overrides, **options):
        with initialize_config_dir(str(ROOT / "conf"), **VERSION_BASE):
            return compose("config", [*QUICK, *overrides], **options)

    return composed


def test_a_composed_config_runs_in_a_folder_as_any_run(composed, tmp_path):
    import train

    value = train.main(composed())
    (folder,) = tmp_path.glob("outputs/*/*")
    assert json.loads((folder / "result.json").read_text())["val/accuracy"] == value
    assert (folder / ".hydra" / "config.yaml").exists()
    assert not (folder / SAVED).exists()  # what is not known is not said
    assert not HydraConfig.initialized()


@pytest.mark.slow
def test_a_config_that_knows_its_overrides_saves_them_and_goes_on(composed, tmp_path):
    import train

    value = train.main(composed(return_hydra_config=True))
    (folder,) = tmp_path.glob("outputs/*/*")
    assert (folder / SAVED).read_text() == "".join(f"- {each}\n" for each in QUICK)
    assert train.main(composed(f"resume={folder}", return_hydra_config=True)) == value
    assert list(tmp_path.glob("outputs/*/*")) == [folder]


def test_several_processes_cannot_be_called(composed):
    import train

    with pytest.raises(ConfigError, match="nproc=2"):
        train.main(composed("nproc=2"))


@pytest.mark.skipif(not IS_TEMPLATE, reason="own README")
def test_the_example_runs():
    (code,) = blocks(section("docs/runs.md", "In a notebook"), "python")
    code = code.replace("config_path=", "").replace("initialize", "initialize_config_dir")
    code = code.replace('"conf"', repr(str(ROOT / "conf"))).replace("epochs=1", "debug.fast_dev_run=true")
    names = {}
    exec(code, names)
    assert 0 <= names["accuracy"] <= 1
