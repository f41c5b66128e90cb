"""From a whole config to an experiment: its YAML, and what has to be done by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from optwrap.errors import ConfigError, first_line
from optwrap.from_mmengine import training
from optwrap.from_mmengine.part import Part
from optwrap.from_mmengine.schedules import schedule_of
from optwrap.from_mmengine.wrapper import optim_wrapper_of

_OLD = ("optimizer", "optimizer_config", "lr_config", "runner", "fp16")


def experiment_of(config: Mapping[str, Any], source: Path) -> tuple[str, list[str], list[str]]:
    """Return an experiment as YAML, a line for each thing to be done by hand, and one for each to be known.

    Raises:
        ConfigError: the config says nothing of an optimizer, or what no MMEngine takes.

    >>> config = {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}}, "train_cfg": {"max_epochs": 9}}
    >>> text, left, notes = experiment_of(config, Path("resnet.py"))
    >>> yaml.safe_load(text)["optim_wrapper"], left
    ({'optimizer': {'lr': 0.1}}, [])
    """
    try:
        wrapper, rest = parts_of(config, source)
    except ConfigError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise ConfigError(
            f"{source}: a value is of another kind than MMEngine takes there ({type(error).__name__}: "
            f"{first_line(error)}). Does the config train with it?"
        ) from error
    everything = [wrapper, *wrapper.inner.values(), rest]
    left = [" ".join(line.split()) for part in everything for line in part.left]
    notes = [" ".join(line.split()) for part in everything for line in part.notes]
    content = dict(rest.keys)
    if keys := wrapper.keys | {name: inner.keys for name, inner in wrapper.inner.items()}:
        content["optim_wrapper"] = keys
    head = [f"# {source.stem}: how it is optimised, from a config of MMEngine"]
    for title, lines in (("To be done by hand:", left), ("To be known:", notes)):
        head += ["#", f"# {title}", *(f"# - {line}" for line in lines)] if lines else []
    body = yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True, default_flow_style=None)
    return "\n".join([*head, "defaults:", *_defaults(wrapper), "", body]), left, notes


def parts_of(config: Mapping[str, Any], source: Path) -> tuple[Part, Part]:
    """Return what the wrapper becomes, and all that stands beside it.

    Raises:
        ConfigError: the config says nothing of an optimizer.
    """
    cfg = config.get("optim_wrapper")
    if not isinstance(cfg, Mapping) or not cfg:
        old = [key for key in _OLD if key in config]
        hint = f" It is one of MMCV before MMEngine ({', '.join(old)})." if old else ""
        raise ConfigError(f"{source}: it has no optim_wrapper, and so nothing to translate.{hint}")
    wrapper = optim_wrapper_of(dict(cfg), config.get("model"))
    if not wrapper.inner and "optimizer" not in cfg:
        raise ConfigError(f"{source}: its optim_wrapper names no optimizer, and there is nothing to translate.")
    counts = _accumulative_counts(cfg)
    scaling, train_cfg = _mapping(config, "auto_scale_lr"), _mapping(config, "train_cfg")
    length = training.length_of(train_cfg, counts)
    average = training.averaging_of(config.get("custom_hooks"), length)
    average.keys |= training.auto_scale_lr_of(scaling, counts)
    for one in wrapper.inner.values() or [wrapper]:
        one.options += average.options
        one.keys |= average.keys
    rest = Part(left=average.left, notes=average.notes)
    rest.add(training.train_cfg_of(train_cfg, length))
    rest.add(training.batch_of(config))
    rest.add(_schedule(config.get("param_scheduler"), length))
    rest.add(training.left_of_scaling(scaling, counts))
    return wrapper, rest


def _accumulative_counts(cfg: Mapping[str, Any]) -> int:
    return max(each.get("accumulative_counts", 1) for each in (cfg, *cfg.values()) if isinstance(each, Mapping))


def _mapping(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


def _schedule(schedulers: Any, length: training.Length) -> Part:
    """Return `schedule` for one scheduler, a list, or one for each wrapper by name."""
    if isinstance(schedulers, Mapping) and "type" not in schedulers:
        part = Part()
        its = {name: _schedule(each, length) for name, each in schedulers.items()}
        part.left = [f"{name}: {line}" for name, each in its.items() for line in each.left]
        schedule = {name: each.keys["schedule"] for name, each in its.items() if each.keys}
        part.keys = {"schedule": schedule} if schedule else {}
        return part
    listed = [schedulers] if isinstance(schedulers, Mapping) else schedulers or []
    counts = length.accumulative_counts
    micro_batches = length.count if length.by_epoch else length.count * counts
    schedule, left = schedule_of(listed, length.by_epoch, micro_batches, counts) if listed else ({}, [])
    return Part(keys={"schedule": schedule} if schedule else {}, left=left)


def _defaults(wrapper: Part) -> list[str]:
    """Return the lines of the defaults list: the options of the wrapper, and no schedule but the config's own."""
    if not wrapper.inner:
        return [f"  - override /optim_wrapper: [{', '.join(wrapper.options)}]", "  - override /schedule: constant"]
    several = [f"  - /optim_wrapper/{name}: [{', '.join(inner.options)}]" for name, inner in wrapper.inner.items()]
    return [*several, "  - override /optim_wrapper: multi", "  - override /schedule: constant"]
