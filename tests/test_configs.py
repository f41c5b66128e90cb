"""Everything that this project can compose, composes: its own files under conf/ and experiments/."""

from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from optwrap.config import help as help_page
from optwrap.config import store
from optwrap.hydra_versions import VERSION_BASE

ROOT = Path(__file__).parents[1]
CONF, EXPERIMENTS = ROOT / "conf", ROOT / "experiments"
OPTIONS = [f"{path.parent.name}={path.stem}" for path in sorted(CONF.glob("*/*.yaml"))]
NAMES = sorted(path.relative_to(EXPERIMENTS).with_suffix("").as_posix() for path in EXPERIMENTS.rglob("*.yaml"))


@pytest.fixture(scope="module")
def composed():
    store.register()
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        yield cache(lambda *overrides: compose("config", list(overrides)))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes(option, composed):
    assert option.partition("=")[0] in composed(option)


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_composes_and_says_what_it_is(name, composed):
    assert composed(f"experiment={name}").task
    assert help_page.first_comment(EXPERIMENTS / f"{name}.yaml"), name


def test_every_config_file_says_what_it_is_in_its_first_line():
    for path in sorted(CONF.rglob("*.yaml")):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# "), path
        assert len(first) > len("# x"), path
