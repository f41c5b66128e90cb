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
    assert {key: cfg[key] for key in CONFIG} == CONFIG | {
        "batch_size": 8,
        "data": {"root": "/elsewhere", "num_classes": 10},
    }


def test_a_key_that_an_earlier_version_had_not_has_its_default_and_may_be_set(run):
    cfg = load_config(run, [])
    assert (cfg.channels_last, cfg.debug.fast_dev_run, cfg.log_level) == (False, False, "INFO")
    assert load_config(run, ["channels_last=true"]).channels_last is True


@pytest.mark.parametrize("saved", ["${hydra:runtime.cwd}/data", "${now:%Y}", "${oc.env:NOBODY}", "${a.b}"])
def test_an_override_takes_the_place_of_what_cannot_be_told_here(saved, run):
    OmegaConf.save(CONFIG | {"data": {"root": saved}}, run / ".hydra/config.yaml")
    assert load_config(run, ["data.root=/here"]).data.root == "/here"


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
