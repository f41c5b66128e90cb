"""Everything that this project can compose, composes: its own files under conf/ and experiments/."""

from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from optwrap.config import help as help_page
from optwrap.config import store
from optwrap.hydra_versions import VERSION_BASE
from tests.optwrap.cases import one_in

ROOT = Path(__file__).parents[1]
CONF, EXPERIMENTS = ROOT / "conf", ROOT / "experiments"
GROUPS = [
    [f"{group.name}={path.stem}" for path in sorted(group.glob("*.yaml"))] for group in sorted(CONF.glob("*/"))
]
# Of each group one option, so that each stands somewhere: the groups know nothing of each other.
TOGETHER = [[group[i % len(group)] for group in GROUPS if group] for i in range(max(map(len, GROUPS)))]
NAMES = sorted(path.relative_to(EXPERIMENTS).with_suffix("").as_posix() for path in EXPERIMENTS.rglob("*.yaml"))
OWN = [name for name in NAMES if "/" not in name]


@pytest.fixture(scope="module")
def composed():
    store.register()
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        yield cache(lambda *overrides: compose("config", list(overrides)))


@pytest.mark.parametrize("options", TOGETHER, ids=" ".join)
def test_every_option_of_every_group_composes(options, composed):
    assert {option.partition("=")[0] for option in options} <= composed(*options).keys()


@pytest.mark.parametrize("name", [*OWN, *one_in(5, [name for name in NAMES if name not in OWN])])
def test_every_experiment_composes_and_says_what_it_is(name, composed):
    assert composed(f"experiment={name}").task
    assert help_page.first_comment(EXPERIMENTS / f"{name}.yaml"), name


def test_every_config_file_says_what_it_is_in_its_first_line():
    for path in sorted(CONF.rglob("*.yaml")):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# "), path
        assert len(first) > len("# x"), path
