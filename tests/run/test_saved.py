import pytest
from omegaconf import OmegaConf

from optwrap.errors import ConfigError
from optwrap.run.saved import load_config, split_arguments


@pytest.fixture
def run(tmp_path):
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(
        {"batch_size": 64, "data": {"root": "data", "num_classes": 10}}, tmp_path / ".hydra/config.yaml"
    )
    return tmp_path


def test_overrides_change_the_saved_config(run):
    cfg = load_config(run, ["data.root=/elsewhere", "batch_size=8"])
    assert cfg == {"batch_size": 8, "data": {"root": "/elsewhere", "num_classes": 10}}


@pytest.mark.parametrize(("override", "said"), [("data.rot=x", "'data.root'"), ("batchsize=1", "'batch_size'")])
def test_a_misspelt_override_names_the_nearest_key(override, said, run):
    with pytest.raises(ConfigError, match=said):
        load_config(run, [override])


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no run's folder"):
        load_config(tmp_path, [])


@pytest.mark.parametrize(
    ("arguments", "said"), [([], "run= is missing"), (["outputs/x"], "key=value"), (["run="], "run=")]
)
def test_arguments_that_do_not_fit_show_the_usage(arguments, said):
    with pytest.raises(ConfigError, match=f"{said}.*Usage: run=... \\[split=test\\]"):
        split_arguments(arguments, {"run": None, "split": "test"})
