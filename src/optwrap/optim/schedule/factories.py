"""From a scheduler's config to what makes it, with the lengths that the run gives."""

import functools
import inspect
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, ReduceLROnPlateau, SequentialLR

from optwrap.errors import ConfigError
from optwrap.instantiate import locate, partial, plain
from optwrap.optim.schedule.in_parts import InParts
from optwrap.optim.schedule.parts import Parts
from optwrap.optim.schedule.schedulers import PlateauAfter

UNSET = (None, "???")

# Arguments that mean the length of the run, filled in where a config leaves them out.
_LENGTHS = ("T_max", "total_steps", "total_updates", "total_iters")

Factory = Callable[[Optimizer], Any]


def scheduler_factory(cfg: Mapping[str, Any], key: str, total_updates: int) -> Factory:
    """Return what makes the scheduler that `cfg` describes, for an optimizer and `total_updates`.

    Raises:
        ConfigError: a target or its arguments are wrong, now or when it is made.
    """
    cfg = plain(cfg, key)
    parts = parts_of(cfg)
    target = None if cfg.get("_target_") in UNSET else target_of(cfg, key)
    if target is not None:
        names = inspect.signature(target).parameters
        by_epochs = cfg.get("epochs") is not None  # OneCycleLR's other way
        for length in _LENGTHS:
            if length in names and cfg.get(length) in UNSET and not by_epochs:
                cfg[length] = total_updates
        if "max_lr" in names and "total_steps" in names and cfg.get("max_lr") in UNSET:
            return _one_cycle({name: value for name, value in cfg.items() if name != "max_lr"}, key)
    if target is SequentialLR and isinstance(milestones := cfg.get("milestones"), list):
        cfg["milestones"] = [_at_update(each, total_updates) for each in milestones]
    if target is SequentialLR and _begins_later(cfg, parts):  # torch up to 2.12 begins with it all the same
        return scheduler_factory(_without_first(cfg, parts), key, total_updates)
    if parts:
        return _combined(target, cfg, parts, key, total_updates)
    bound = partial(cfg, key)
    return lambda optimizer: calling(functools.partial(bound, optimizer), key)


def _combined(target: Any, cfg: Mapping[str, Any], parts: Sequence[Any], key: str, total_updates: int) -> Factory:
    """Return what makes a SequentialLR or a ChainedScheduler with its parts."""
    in_turn = target is not ChainedScheduler
    lengths = (
        _lengths(cfg.get("milestones"), total_updates, len(parts)) if in_turn else [total_updates] * len(parts)
    )
    factories = [
        scheduler_factory(part, f"{key}.schedulers[{i}]", length)
        for i, (part, length) in enumerate(zip(parts, lengths, strict=True))
    ]
    plateaus = [i for i, part in enumerate(parts) if _has_plateau(part, f"{key}.schedulers[{i}]")]
    last = len(parts) - 1
    ends_in_one = target is SequentialLR and plateaus == [last] and last > 0 and is_plateau(parts[last], key)
    if plateaus and not ends_in_one:
        raise ConfigError(
            f"{key}.schedulers[{plateaus[0]}]: a ReduceLROnPlateau can only be the last part of a SequentialLR, "
            "after schedulers that count updates."
        )
    rest = {name: value for name, value in cfg.items() if name not in ("schedulers", "_target_")}
    if ends_in_one:
        rest["_target_"] = PlateauAfter
    bound = partial({"_target_": target, **rest}, key)

    def make(optimizer: Optimizer) -> Any:
        schedulers = [factory(optimizer) for factory in factories]
        first = (optimizer,) if in_turn else ()
        return calling(functools.partial(bound, *first, schedulers=schedulers), key)

    return make


def _at_update(milestone: Any, total_updates: int) -> Any:
    """Return the update of a milestone that is a fraction of the run."""
    is_fraction = isinstance(milestone, float) and 0 <= milestone < 1
    return round(milestone * total_updates) if is_fraction else milestone


def _begins_later(cfg: Mapping[str, Any], parts: Sequence[Any]) -> bool:
    milestones = cfg.get("milestones")
    return isinstance(milestones, list) and len(milestones) == len(parts) - 1 > 0 and milestones[0] == 0


def _without_first(cfg: Mapping[str, Any], parts: Sequence[Any]) -> Mapping[str, Any]:
    """Return the sequence without a first part that has no update: a warm-up of 0."""
    rest = parts[1:]
    return rest[0] if len(rest) == 1 else {**cfg, "schedulers": rest, "milestones": cfg["milestones"][1:]}


def _lengths(milestones: Any, total_updates: int, count: int) -> list[int]:
    """Return how many updates each part of a SequentialLR has, where its milestones fit its parts."""
    if not isinstance(milestones, Sequence) or not all(isinstance(each, int) for each in milestones):
        return [total_updates] * count  # which torch refuses
    bounds = [0, *milestones, total_updates][: count + 1]
    lengths = [max(end - start, 1) for start, end in itertools.pairwise(bounds)]
    return lengths + [total_updates] * (count - len(lengths))


def _one_cycle(cfg: Mapping[str, Any], key: str) -> Factory:
    """Return a OneCycleLR whose peak is the base value."""

    def make(optimizer: Optimizer) -> Any:
        peaks = [float(group.get("base", group["lr"])) for group in optimizer.param_groups]
        return calling(functools.partial(partial({**cfg, "max_lr": peaks}, key), optimizer), key)

    return make


def parts_factory(parts: Parts) -> Factory:
    """Return what makes the schedule that is written in parts.

    Raises:
        ConfigError: the arguments of its plateau are wrong, now or when it is made.
    """
    if parts.plateau is None:
        return lambda optimizer: InParts(optimizer, parts)
    key = parts.plateau_key
    bound = partial({"_target_": ReduceLROnPlateau, **parts.plateau}, key)
    return lambda optimizer: InParts(optimizer, parts, calling(functools.partial(bound, optimizer), key))


def calling(bound: Callable[[], Any], key: str) -> Any:
    """Call what makes a scheduler; what it refuses is a ConfigError with the remedy."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return bound()
    except ConfigError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        remedy = ""
        if "`cycle_momentum`" in str(error):
            remedy = f". Set {key}.cycle_momentum=false."
        elif any(part in str(error) for part in ("optimizer.param_groups", "lr_lambdas", "min_lrs")):
            remedy = ". Give one value: param groups keep their proportion to it, which paramwise_cfg sets."
        raise ConfigError(f"{key}: {str(error).rstrip('.') if remedy else error}{remedy}") from error


def target_of(cfg: Mapping[str, Any], key: str) -> Any:
    """Return the class or function that the config names."""
    target = cfg["_target_"]
    return target if callable(target) else locate(target, f"{key}._target_")


def is_plateau(cfg: Mapping[str, Any], key: str) -> bool:
    """Whether the config is that of a ReduceLROnPlateau."""
    return cfg.get("_target_") not in UNSET and target_of(cfg, key) is ReduceLROnPlateau


def _has_plateau(cfg: Mapping[str, Any], key: str) -> bool:
    return is_plateau(cfg, key) or any(_has_plateau(part, key) for part in parts_of(cfg))


def parts_of(cfg: Mapping[str, Any]) -> list[Any]:
    """Return the configs of the schedulers that SequentialLR or ChainedScheduler combines."""
    parts = cfg.get("schedulers")
    return parts if isinstance(parts, list) and all(isinstance(part, Mapping) for part in parts) else []
