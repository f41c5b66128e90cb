"""What a search may choose: Hydra's own syntax for sweeps, as distributions."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from optwrap.errors import ConfigError
from optwrap.sweep.search.space import search_space

distributions = pytest.importorskip("optuna").distributions
Float, Int, Choice = (
    distributions.FloatDistribution,
    distributions.IntDistribution,
    distributions.CategoricalDistribution,
)


def space(*overrides, repeated=("seed", "data.fold")):
    return search_space(OverridesParser.create().parse_overrides(list(overrides)), repeated)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("interval(0,1)", Float(0, 1)),
        ("tag(log,interval(1e-4,1))", Float(1e-4, 1, log=True)),
        ("int(interval(1,8))", Int(1, 8)),
        ("tag(log,int(interval(1,8)))", Int(1, 8, log=True)),
        ("range(1,9)", Int(1, 8)),
        ("range(1,9,2)", Int(1, 7, step=2)),
        ("range(9,1,-2)", Int(3, 9, step=2)),
        ("range(0,1,0.25)", Float(0, 0.75, step=0.25)),
        ("a,b,a", Choice(["a", "b"])),
        ("choice([sgd],[sgd,amp])", Choice(["[sgd]", "[sgd,amp]"])),
        ("0.1,0.2,null", Choice(["0.1", "0.2", "null"])),
    ],
)
def test_sweeps_as_hydra_writes_them_are_distributions(value, expected):
    assert space(f"x={value}").distributions == {"x": expected}


def test_lists_of_seeds_and_folds_repeat_each_trial_and_what_is_not_swept_is_shared():
    found = space("+x=1,2", "seed=0,1", "data.fold=range(0,2)", "model=vit", "x.y=3", "x.y=4")
    assert list(found.distributions) == ["+x"]
    assert found.overrides({"+x": "2"}) == [
        ["model=vit", "x.y=4", "+x=2", f"seed={seed}", f"data.fold={fold}"] for seed in (0, 1) for fold in (0, 1)
    ]
    assert space("x=1,2", "seed=3").overrides({"x": "1"}) == [["seed=3", "x=1"]]
    assert list(space("x=1,2", "seed=0,1", repeated=()).distributions) == ["seed", "x"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("x=1", "nothing is to be chosen"),
        ("x=interval(1,1)", r"x=interval\(1,1\): from 1.0 to 1.0 there is no interval"),
        ("x=tag(log,interval(0,1))", "no logarithmic interval"),
        ("x=tag(lgo,interval(0,1))", "the tag 'lgo' has no meaning here; log has"),
        ("x=tag(log,choice(1,2))", "the tag log counts for an interval or a range alone"),
        ("x=tag(log,range(1,9,2))", "a logarithmic range needs steps of 1"),
        ("x=range(3,3)", "the range is empty"),
        ("seed=interval(0,1)", "each trial is repeated for it, so it needs a list of values"),
    ],
)
def test_what_cannot_be_searched_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        space(override, *(["y=1,2"] if override.startswith("seed") else []))
