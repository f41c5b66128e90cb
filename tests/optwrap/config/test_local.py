"""`conf/local/default.yaml`: what belongs to one machine, absent by default."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from optwrap.config import help as help_page
from optwrap.config import store
from optwrap.config.command_line import CommandLine
from optwrap.config.messages.explain import explain
from optwrap.errors import ConfigError
from optwrap.program.own_targets import check_own_keys
from optwrap.sweep import identity  # noqa: F401 -- it names the folders of jobs

ROOT = Path(__file__).parents[3]
OWN = """
defaults:
  - override /hydra/launcher: joblib

data_root: /disk
num_workers: 3
epochs: 7
logger: {csv: {train_rows: false}}
hydra: {launcher: {n_jobs: 5}}
"""
Composed = Callable[..., DictConfig]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A project's configs, with an experiment and without this machine's own file."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "short.yaml").write_text("epochs: 1\n")
    return shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))


@pytest.fixture
def composed(conf: Path) -> Iterator[Composed]:
    store.register()
    with initialize_config_dir(str(conf), version_base="1.3"):
        yield lambda *overrides: compose("config", list(overrides), return_hydra_config=True)


def write(conf: Path, text: str) -> None:
    (conf / "local").mkdir(exist_ok=True)
    (conf / "local" / "default.yaml").write_text(text)


def test_without_the_file_nothing_is_asked_for(composed: Composed, conf: Path) -> None:
    cfg = composed("data=mnist")
    assert (cfg.num_workers, cfg.data_root, cfg.data.root) == (0, "data", "data")
    assert "local" not in list(help_page.group_lines(conf, {}))


def test_it_wins_over_the_configs_and_their_groups(composed: Composed, conf: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    write(conf, OWN)
    cfg = composed("data=mnist")
    assert (cfg.num_workers, cfg.data.root, cfg.epochs, cfg.logger.csv.train_rows) == (3, "/disk", 7, False)
    assert cfg.hydra.launcher.n_jobs == 5


def test_the_experiment_and_the_command_line_win_over_it(composed: Composed, conf: Path) -> None:
    write(conf, "epochs: 7\nnum_workers: 3\ndata: {root: /disk}\n")
    cfg = composed("experiment=short", "data=mnist", "num_workers=1")
    assert (cfg.epochs, cfg.num_workers, cfg.data.root) == (1, 1, "/disk")
    assert composed("data=mnist", "data.root=here").data.root == "here"


@pytest.mark.parametrize("data", ["digits", "fake", "null"])
def test_a_root_of_data_sets_fits_a_data_set_without_one(composed: Composed, conf: Path, data: str) -> None:
    write(conf, "data_root: /disk\n")
    assert "root" not in (composed("data=" + data).data if data != "null" else {})


@pytest.mark.parametrize(("text", "same"), [("data_root: /d\nnum_workers: 3\n", True), ("epochs: 7\n", False)])
def test_a_job_is_another_only_by_keys_that_change_its_result(
    composed: Composed, conf: Path, text: str, same: bool
) -> None:
    before = composed("data=mnist").hydra.sweep.subdir
    write(conf, text)
    assert (composed("data=mnist").hydra.sweep.subdir == before) is same


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("strategy: {nme: ddp}\n", "strategy (Strategy) has no key 'nme'."),
        ("num_workers: x\n", "num_workers: expected int, got 'x'."),
        ("hydra: {launcher: {n_jobs: 3}}\n", "hydra.launcher (BasicLauncherConf) has no key 'n_jobs'"),
    ],
)
def test_a_mistake_in_it_names_the_file(composed: Composed, conf: Path, text: str, named: str) -> None:
    write(conf, text)
    with pytest.raises(Exception) as raised:  # noqa: PT011 -- Hydra's, whichever it is
        composed()
    message = explain(raised.value, CommandLine(conf, "config", ()))
    assert message is not None
    assert message.startswith(f"In local/default.yaml: {named}")


def test_a_key_that_is_nearly_one_of_the_configs_is_a_mistake(composed: Composed, conf: Path) -> None:
    write(conf, "nm_workers: 3\n")
    message = "^In local/default.yaml: the config has no key 'nm_workers'. Did you mean 'num_workers'?"
    with pytest.raises(ConfigError, match=message):
        check_own_keys(composed(), [], conf)


def test_git_ignores_it() -> None:
    assert "/conf/local/" in (ROOT / ".gitignore").read_text().splitlines()
