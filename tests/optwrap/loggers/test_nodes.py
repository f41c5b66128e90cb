"""The config's `logger`: options that combine, loggers of one's own, and what is said where a node is wrong."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from optwrap.config import store
from optwrap.errors import ConfigError
from optwrap.loggers import Logger, WandbLogger
from optwrap.loggers.nodes import build_logger, check_loggers, trackers, writes_train_rows
from tests.optwrap.cases import one_in

ROOT = Path(__file__).parents[3]
BUILT_IN = ["tensorboard", "trackio", "mlflow", "wandb"]


class Mine(Logger):
    def __init__(self, path: str = "rows.txt") -> None:
        self.path = path


class Deaf:
    """No logger: it lacks most of the protocol."""

    def log(self, split: str, row: dict[str, float]) -> None:
        pass


@pytest.fixture(scope="module")
def composed() -> Iterator[Callable[..., DictConfig]]:
    store.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield lambda *overrides: compose("config", list(overrides)).logger


def chosen(*overrides: str) -> DictConfig:
    """Return the config's `logger` as composed, in no time: `logger=OPTION` is one file."""
    files = [ROOT / "conf" / "logger" / f"{each[7:]}.yaml" for each in overrides if each.startswith("logger=")]
    typed = [each.lstrip("+") for each in overrides if not each.startswith("logger=")]
    nodes = [OmegaConf.create({"logger": OmegaConf.load(file)}) for file in files]
    return OmegaConf.merge(*nodes, OmegaConf.from_dotlist(typed)).logger


@pytest.mark.parametrize(
    ("overrides", "keys", "train_rows"),
    one_in(
        2,
        [
            ((), [], True),
            (("logger=csv",), [], True),
            (("logger=none",), [], False),
            (("logger=tensorboard",), ["tensorboard"], True),
            (("logger=[evaluations_only,wandb]",), ["wandb"], False),
            (("logger=[csv,tensorboard,trackio,mlflow,wandb]",), BUILT_IN, True),
            (("logger=[csv,tensorboard]", "logger.tensorboard=null"), [], True),
            (("logger=wandb", "logger.csv.train_rows=false"), ["wandb"], False),
            (("logger.mine._target_=own.Mine", "logger.mine.path=a/b"), ["mine"], True),
        ],
    ),
)
def test_options_combine_and_each_is_a_node(composed, overrides, keys, train_rows):
    node = composed(*overrides)
    assert [key for key, _ in trackers(node)] == keys
    assert writes_train_rows(node) is train_rows


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("logger.tensorbord.live=true",),
            r"logger\.tensorbord: it has no _target_\. Did you mean 'tensorboard'\?",
        ),
        (("logger.wandb.project=x",), r"logger\.wandb: it has no _target_\. Choose it: logger=wandb"),
        (("logger.tensorbord=true",), r"logger\.tensorbord=true: .* Did you mean 'tensorboard'\?"),
        (("logger.tensorboard=true",), r"logger\.tensorboard=true: this is logger=tensorboard now"),
        (("logger.train_rows=false",), r"this is logger\.csv\.train_rows=false now"),
        (("logger.csv=null",), r"logger\.csv=null: metrics\.csv is always written"),
        (("logger.csv.train_row=false",), r"logger\.csv\.train_row: .* Did you mean 'train_rows'\?"),
        (("logger.csv.train_rows=no_rows",), r"logger\.csv\.train_rows=no_rows: expected bool"),
        (("+logger._target_=own.Mine",), r"logger\._target_=own\.Mine: a logger is a node"),
        (
            ("logger=tensorboard", "logger.tensorboard.liv=true"),
            r"liv: there is no such key\. Did you mean 'live'\?",
        ),
        (("logger=tensorboard", "logger.tensorboard.live=yes_please"), r"live=yes_please: expected bool"),
        (("logger=wandb", "logger.wandb.wait=-1"), r"wait=-1: expected float of seconds, at least 0"),
        (("logger=wandb", "logger.wandb.projct=x"), r"logger\.wandb\.projct: .* Did you mean 'project'\?"),
        (("logger=mlflow", "logger.mlflow.experiment=3"), r"logger\.mlflow\.experiment=3: expected str"),
        (("logger.mine._target_=no.such.Class",), r"logger\.mine\._target_='no\.such\.Class': cannot be imported"),
    ],
    ids=str,
)
def test_a_wrong_node_is_an_error_that_names_it(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check_loggers(chosen(*overrides))


@pytest.mark.parametrize("key", BUILT_IN)
def test_a_package_that_is_missing_is_named_with_its_extra(key, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf'logger\.{key} needs the package {key}: pip install -e "\.\[{key}\]"'):
        check_loggers(chosen(f"logger={key}"))


def test_a_package_that_cannot_be_loaded_is_an_error_before_the_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with pytest.raises(ConfigError, match=r"tensorboard is there, but cannot be loaded"):
        build_logger("tensorboard", chosen("logger=tensorboard").tensorboard)


def test_a_mode_of_wandb_that_is_none_is_an_error():
    with pytest.raises(ValueError, match=r"mode=of: it is online, offline or disabled"):
        WandbLogger(mode="of")


def test_what_lacks_a_method_of_the_protocol_is_no_logger():
    with pytest.raises(ConfigError, match=r"it has no method start\. Inherit from optwrap\.loggers\.Logger"):
        build_logger("mine", {"_target_": Deaf})
    built, own = build_logger("mine", {"_target_": Mine, "path": "x", "live": True})
    assert (built.path, own) == ("x", {"live": True, "wait": 10.0})
