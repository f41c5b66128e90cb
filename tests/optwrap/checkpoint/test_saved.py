import pytest
from omegaconf import OmegaConf

from optwrap.checkpoint.saved import load_config
from optwrap.errors import ConfigError

CONFIG = {
    "batch_size": 64,
    "data": {"root": "data", "num_classes": 10},
    "model": {},
    "task": {},
    "seed": 0,
    "device": "cpu",
}


@pytest.fixture
def run(tmp_path):
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(CONFIG, tmp_path / ".hydra/config.yaml")
    return tmp_path


def test_overrides_change_the_saved_config(run):
    cfg = load_config(run, ["data.root=/elsewhere", "batch_size=8"])
    assert cfg == CONFIG | {"batch_size": 8, "data": {"root": "/elsewhere", "num_classes": 10}}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.rot=x", "'data.root'"),
        ("batchsize=1", "'batch_size'"),
        ("spilt=val", "'split'"),
        ("batch_size=abc", "expected int"),
        ("data=mnist", "data is a group"),
    ],
)
def test_an_override_that_does_not_fit_is_an_error_that_says_why(override, said, run):
    with pytest.raises(ConfigError, match=said):
        load_config(run, [override])


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no run's folder"):
        load_config(tmp_path, [])


@pytest.mark.parametrize(
    ("content", "said"), [("{", "no YAML"), ("x: 1", "not one of train.py's"), ("[1]", "not one")]
)
def test_a_config_that_train_did_not_write_is_an_error(content, said, run):
    (run / ".hydra/config.yaml").write_text(content)
    with pytest.raises(ConfigError, match=said):
        load_config(run, [])
