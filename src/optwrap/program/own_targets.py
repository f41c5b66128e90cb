"""What is typed beyond the configs: a class of one's own (`model._target_=package.Net`), a key of one's own."""

import logging
import re
from dataclasses import fields

from omegaconf import DictConfig, OmegaConf, open_dict

from optwrap.config.train_schema import TrainConfig
from optwrap.errors import did_you_mean
from optwrap.instantiate import argument_names, locate
from optwrap.loggers.nodes import check_loggers

logger = logging.getLogger(__name__)

_OWN_TARGET = re.compile(r"\+*(model|data|task)\._target_=(.+)")


def with_new_keys(arguments: list[str]) -> list[str]:
    """Let the arguments of a class of one's own be typed like all others, without Hydra's `+` for new keys.

    >>> with_new_keys(["model._target_=my.Net", "model.depth=3", "data.root=x"])
    ['model._target_=my.Net', '++model.depth=3', 'data.root=x']
    """
    own = [found[1] for each in arguments if (found := _OWN_TARGET.fullmatch(each))]
    return [
        f"++{each}"
        if each.startswith(tuple(f"{group}." for group in own)) and not _OWN_TARGET.match(each)
        else each
        for each in arguments
    ]


def take_typed(cfg: DictConfig, overrides: list[str]) -> None:
    """Make the config one of what was typed beyond the configs, and say what nothing reads.

    Raises:
        ConfigError: as `fit_own_targets` and `check_loggers`.
    """
    fit_own_targets(cfg, overrides)
    warn_of_new_keys(cfg, overrides)
    if "optim_wrapper" in cfg and "logger" in cfg:  # not in a program of one's own, whose keys are its own
        check_loggers(cfg.logger)


def warn_of_new_keys(cfg: DictConfig, overrides: list[str]) -> None:
    """Say of a top-level key that was added by `+` that nothing in the config reads it."""
    known = [item.name for item in fields(TrainConfig)]
    for override in overrides:
        key = override.lstrip("+").partition("=")[0].partition(".")[0].partition("@")[0]
        is_new = override.startswith("+") and "/" not in key and key not in known and key in cfg
        if is_new and f"${{{key}" not in OmegaConf.to_yaml(cfg):
            hint = did_you_mean(key, known)
            logger.warning("%s: a new key, which only code of your own can read.%s", override, hint)


def fit_own_targets(cfg: DictConfig, overrides: list[str]) -> None:
    """Drop the arguments of the option that was chosen which a `_target_` typed in its place does not take.

    What was typed, or is read by other parts of the config, stays: an error where the class does not take it.

    Raises:
        ConfigError: the target cannot be imported.
    """
    for override in overrides:
        typed = _OWN_TARGET.fullmatch(override)
        if typed is None or cfg.get(typed[1]) is None:
            continue
        group, path = typed[1], typed[2].strip("'\"")
        taken = argument_names(locate(path, f"{group}._target_"))
        keys = [each.lstrip("+").partition("=")[0].split(".") for each in overrides]
        own = {key[1] for key in keys if key[0] == group and len(key) > 1}
        read_by_others = set(re.findall(rf"\$\{{{group}\.(\w+)", OmegaConf.to_yaml(cfg)))
        left_out = [
            str(name)
            for name in cfg[group]
            if taken is not None and name not in {*taken, *own, *read_by_others} and not str(name).startswith("_")
        ]
        with open_dict(cfg[group]):
            for name in left_out:
                del cfg[group][name]
        if left_out:
            logger.info("%s: %s takes no %s; left out.", group, path, ", ".join(left_out))
