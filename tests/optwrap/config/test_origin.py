import pytest
from omegaconf import OmegaConf

from optwrap.config.origin import with_saved_origin
from optwrap.errors import ConfigError


@pytest.fixture
def conf(tmp_path):
    (tmp_path / "project" / "conf").mkdir(parents=True)
    (tmp_path / "project" / "train.py").touch()
    return tmp_path / "project" / "conf"


@pytest.fixture
def begun(tmp_path, conf):
    """Write what Hydra saves of a run into a folder."""

    def write(name="config", searchpath=(), **sources):
        folders = {"main": conf, **{key.replace("_", "-"): path for key, path in sources.items()}}
        found = [{"provider": key, "path": str(path), "schema": "file"} for key, path in folders.items()]
        job, overrides = {"config_name": name}, {"hydra": list(searchpath)}
        content = {"hydra": {"job": job, "runtime": {"config_sources": found}, "overrides": overrides}}
        (tmp_path / "run" / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(content), tmp_path / "run" / ".hydra" / "hydra.yaml")
        return tmp_path / "run"

    return write


def test_a_run_goes_on_as_one_run_from_the_config_that_it_was_begun_with(begun, conf):
    found = with_saved_origin(["--info", "epochs=5"], begun(name="other"), conf, "config")
    assert found == ["--config-name=other", "--info", "epochs=5", "hydra.mode=RUN"]


def test_a_config_that_is_typed_wins(begun, conf):
    assert with_saved_origin(["-cn", "mine"], begun(name="other"), conf, "config") == [
        *("-cn", "mine", "hydra.mode=RUN")
    ]


def test_of_the_programs_own_config_nothing_is_said(begun, conf):
    assert with_saved_origin([], begun(), conf, "config") == ["hydra.mode=RUN"]


def test_a_run_of_an_older_version_without_hydras_config_goes_on(tmp_path, conf):
    assert with_saved_origin(["epochs=1"], tmp_path, conf, "config") == ["epochs=1", "hydra.mode=RUN"]


@pytest.mark.parametrize(
    ("saved", "again"),
    [
        ({"command_line": "/some where"}, "--config-dir='/some where'"),
        ({"main": "/mine/configs"}, "--config-path=/mine/configs"),
        ({"searchpath": ["hydra.searchpath=[file:///a]"]}, "'hydra.searchpath=[file:///a]'"),
        ({"name": "../../evil"}, "--config-name=../../evil: type it again"),
        ({"name": "/evil"}, "--config-name=/evil: type it again"),
    ],
)
def test_configs_elsewhere_are_never_taken_from_a_folder_but_typed_again(saved, again, begun, conf):
    folder = begun(**saved)
    with pytest.raises(ConfigError) as refusal:
        with_saved_origin(["epochs=1"], folder, conf, "config")
    assert str(refusal.value).startswith(f"resume={folder}: ")
    assert again in str(refusal.value)
    typed = ["-cd=/a", "--config-path", "/b", "hydra.searchpath=[]", "--config-name=x"]
    assert with_saved_origin(typed, folder, conf, "config") == [*typed, "hydra.mode=RUN"]


def test_a_project_that_was_moved_or_copied_has_its_own_configs(begun, conf, tmp_path):
    (tmp_path / "copy" / "conf").mkdir(parents=True)
    (tmp_path / "copy" / "train.py").touch()
    assert with_saved_origin([], begun(main=tmp_path / "copy" / "conf"), conf, "config") == ["hydra.mode=RUN"]
    conf.parent.rename(tmp_path / "moved")
    (tmp_path / "run" / ".hydra" / "hydra.yaml").unlink()
    (tmp_path / "run" / ".hydra").rmdir()
    (tmp_path / "run").rmdir()
    moved = tmp_path / "moved" / "conf"
    assert with_saved_origin([], begun(), moved, "config") == ["hydra.mode=RUN"]


@pytest.mark.parametrize("text", ["{", "x: 1", "hydra: 3", "hydra: {job: [], runtime: 1, overrides: 2}"])
def test_a_damaged_file_is_an_error(text, tmp_path, conf):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "hydra.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"hydra\.yaml"):
        with_saved_origin([], tmp_path, conf, "config")
