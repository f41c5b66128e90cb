"""Grids: every combination, begun at once, found wrong at once."""

import json

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from optwrap.errors import ConfigError
from optwrap.sweep.grid import combinations, of_each_kind


def made(*overrides):
    return combinations(OverridesParser.create().parse_overrides(list(overrides)))


def test_every_combination_is_a_job_and_the_last_of_two_values_counts():
    assert made("+a=1,2", "b=[x],[x,y]", "c=3", "c=4") == [
        [f"+a={a}", f"b={b}", "c=4"] for a in (1, 2) for b in ("[x]", "[x,y]")
    ]
    assert made("a=range(0,3)") == [["a=0"], ["a=1"], ["a=2"]]
    assert made("a=1") == [["a=1"]]
    with pytest.raises(ConfigError, match=r"a=interval\(0,1\): a grid needs values.*hydra/sweeper=search"):
        made("a=interval(0,1)")


def test_jobs_of_each_kind_have_every_word_and_one_number_of_each_type():
    jobs = made("model=a,b", "seed=range(0,100)", "lr=1,0.5")
    assert of_each_kind(jobs) == [
        ["model=a", "seed=0", "lr=1"],
        ["model=a", "seed=0", "lr=0.5"],
        ["model=b", "seed=0", "lr=1"],
    ]


def test_a_wrong_value_anywhere_stops_a_grid_before_its_first_job(program):
    ended = program.sweep("seed=0,1,2", "epohcs=1,two")
    assert ended.code == 1
    assert program.ran == []


@pytest.mark.slow
def test_values_in_a_file_are_swept_and_the_command_line_wins(program):
    program.sweep("hydra.sweeper.params={seed: '0,1', epochs: '3,4'}", "epochs=5")
    assert sorted(program.ran) == ["0 5", "1 5"]
    assert json.loads((program.out / "sweep.json").read_text())["jobs"] == 2


def test_a_batch_size_below_one_is_named(program):
    ended = program.sweep("seed=0,1", "hydra.sweeper.max_batch_size=0")
    assert (ended.code, program.ran) == (1, [])
    assert "hydra.sweeper.max_batch_size=0: it is 1 or more" in ended.err
