"""The settings of MMPretrain, MMDetection, MMSegmentation and MMagic: what of them is translated, and composes.

`wrappers.json` holds, as numbers and names, the distinct settings in the 2,209 of their 2,790 configs that train.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

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
