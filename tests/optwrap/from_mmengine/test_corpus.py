"""The settings of MMPretrain, MMDetection, MMSegmentation and MMagic: what of them is translated, and composes.

`wrappers.json` holds, as numbers and names, the distinct settings in 2,209 of their 2,790 files of configs; the
others name no optimizer, or do not load.
"""

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from optwrap.errors import ConfigError
from optwrap.from_mmengine.experiment import experiment_of

FACTS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("wrappers.json").read_text())
LEFT = {  # what is left to be done by hand, and in how many configs
    "optim_wrapper.constructor": 16,
    "optim_wrapper.lr_schedule": 5,
    "optim_wrapper.modules": 6,
    "optim_wrapper.type": 3,
    "optim_wrapper.paramwise_cfg.force_default_settings": 2,
    "train_cfg.val_begin": 17,
    "train_cfg.dynamic_intervals": 29,
    "custom_hooks": 4,
    "custom_hooks.EMAHook.ema_type": 29,
    "custom_hooks.EMAHook.evaluate_on_origin": 1,
}
NAME = Path("config.py")


def keys_of(lines: list[str]) -> set[str]:
    """Return the keys that lines are about."""
    return {re.split("[=:]", line)[0] for line in lines}


@pytest.fixture(scope="module")
def translated() -> list[tuple[int, str, set[str]]]:
    """In how many configs a setting is, its experiment, and the keys that are left."""
    found = [(fact["configs"], *experiment_of(fact, NAME)) for fact in FACTS]
    return [(configs, text, keys_of(left)) for configs, text, left, _ in found]


def test_what_is_left_is_known(translated: list[tuple[int, str, set[str]]]) -> None:
    left = Counter[str]()
    for configs, _, keys in translated:
        left.update(dict.fromkeys(keys, configs))
    assert left == LEFT


def test_the_shares_that_are_translated_whole(translated: list[tuple[int, str, set[str]]]) -> None:
    whole = sum(configs for configs, _, _ in translated)
    everything = sum(configs for configs, _, keys in translated if not keys)
    rules = ("optim_wrapper.optimizer", "optim_wrapper.paramwise_cfg")
    optimised = sum(configs for configs, _, keys in translated if not any(key.startswith(rules) for key in keys))
    wrappers = sum(configs for configs, _, keys in translated if not any(key.startswith("optim") for key in keys))
    assert (whole, everything, wrappers, optimised) == (2209, 2125, 2182, 2207)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in nested containers."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


ODD = [None, "x", "two\nlines: [", [], {}, -3, 0.5, True, float("nan"), ["a"], {"type": "Odd"}]
ODD += [{"a b": {"optimizer": {"type": "SGD"}}}]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_config_it_is_translated_or_one_message(data: st.DataObject) -> None:
    fact = copy.deepcopy(data.draw(st.sampled_from(FACTS)))
    *path, last = data.draw(st.sampled_from(list(places(fact))))
    node = fact
    for key in path:
        node = node[key]
    node[last] = data.draw(st.sampled_from(ODD))
    said = ""
    try:
        text, _, _ = experiment_of(fact, NAME)
    except ConfigError as error:
        text, said = "defaults: []", str(error)
    assert "\n" not in said
    assert isinstance(yaml.safe_load(text)["defaults"], list)


@pytest.mark.slow
def test_every_experiment_composes(
    translated: list[tuple[int, str, set[str]]], compose_experiment: Callable[[str], DictConfig]
) -> None:
    for _, text, _ in translated:
        cfg = compose_experiment(text)
        wrappers = [
            each for each in cfg.optim_wrapper.values() if isinstance(each, DictConfig) and "optimizer" in each
        ]
        for each in wrappers or [cfg.optim_wrapper]:
            assert each.optimizer._target_.startswith(("torch.optim.", "timm.optim."))
