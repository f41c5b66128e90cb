"""What is typed beyond the configs: a class of one's own (`model._target_=package.Net`), a key of one's own."""

import logging
import re
from dataclasses import fields
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from optwrap.config.sources import experiments_folder
from optwrap.config.train_schema import TrainConfig
from optwrap.errors import ConfigError, did_you_mean
from optwrap.instantiate import argument_names, locate
from optwrap.loggers.nodes import check_loggers

logger = logging.getLogger(__name__)

_OWN_TARGET = re.compile(r"\+*(model|data|task)\._target_=(.+)")
_OPEN = re.compile(r"model\.config[.=].*")  # fields of a config that transformers knows
_OWN_HOOK = re.compile(r"\+*(hooks\.\w+)\._target_=.+")


def with_new_keys(arguments: list[str]) -> list[str]:
    """Let the arguments of a class of one's own be typed like all others, without Hydra's `+` for new keys.

    >>> with_new_keys(["model._target_=my.Net", "model.depth=3", "data.root=x"])
    ['model._target_=my.Net', '++model.depth=3', 'data.root=x']
    >>> with_new_keys(["hooks.mine._target_=my.Hook", "hooks.mine.every=3", "hooks.other.every=3"])
    ['++hooks.mine._target_=my.Hook', '++hooks.mine.every=3', 'hooks.other.every=3']
    >>> with_new_keys(["model=transformers", "model.name=vit", "model.config.hidden_size=64"])
    ['model=transformers', 'model.name=vit', '++model.config.hidden_size=64']
    """
    own = [found[1] for each in arguments if (found := _OWN_TARGET.fullmatch(each) or _OWN_HOOK.fullmatch(each))]
    return [
        f"++{each}"
        if _OPEN.match(each)
        or (each.startswith(tuple(f"{group}." for group in own)) and not _OWN_TARGET.match(each))
        else each
        for each in arguments
    ]


def take_typed(cfg: DictConfig, overrides: list[str], conf: Path) -> None:
    """Make the config one of what was typed beyond the configs, and say what nothing reads.

    Raises:
        ConfigError: as `fit_own_targets`, `check_own_keys` and `check_loggers`.
    """
    check_own_keys(cfg, overrides, conf)
    fit_own_targets(cfg, overrides)
    warn_of_new_keys(cfg, overrides)
    if "optim_wrapper" in cfg and "logger" in cfg:  # not in a program of one's own, whose keys are its own
        check_loggers(cfg.logger)


def check_own_keys(cfg: DictConfig, overrides: list[str], conf: Path) -> None:
    """Take the top-level keys that files add for a project's own, unless one looks like a slip.

    Raises:
        ConfigError: a key nearly has the name of one that there is; those added by `+` are meant.
    """
    known = [item.name for item in fields(TrainConfig)]
    typed = {_top(override) for override in overrides if override.startswith("+")}
    for key in map(str, cfg):
        if key in known or key in typed or key == "hydra":
            continue
        if hint := did_you_mean(key, known):
            raise ConfigError(
                f"{_place(key, overrides, conf)}the config has no key {key!r}.{hint} A key of your own needs a "
                "name that is less like it."
            )


def _place(key: str, overrides: list[str], conf: Path) -> str:
    """Name the file that has a top-level key, if it is this machine's or the experiment's."""
    chosen = [each.partition("=")[2] for each in overrides if each.startswith("experiment=")]
    files = {"local/default.yaml": conf / "local" / "default.yaml"}
    files |= {f"experiments/{name}.yaml": experiments_folder(conf) / f"{name}.yaml" for name in chosen}
    for name, file in files.items():
        if file.is_file() and re.search(
            rf"^[\"']?{re.escape(key)}[\"']?\s*:", file.read_text("utf-8"), re.MULTILINE
        ):
            return f"In {name}: "
    return ""


def _top(override: str) -> str:
    """Return the top-level key that an override sets."""
    return override.lstrip("+").partition("=")[0].partition(".")[0].partition("@")[0]


def warn_of_new_keys(cfg: DictConfig, overrides: list[str]) -> None:
    """Say of a top-level key that was added by `+` that nothing in the config reads it."""
    known = [item.name for item in fields(TrainConfig)]
    for override in overrides:
        key = _top(override)
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
    # Data last: what the chosen model and task read of it may just have been left out.
    for override in sorted(overrides, key=lambda each: each.lstrip("+").startswith("data.")):
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
