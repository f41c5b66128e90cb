"""What any constructor's wrapper may have beside its optimizer: averages, SAM, frozen parts, a scaled lr."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from optwrap.errors import ConfigError
from optwrap.instantiate import locate, plain
from optwrap.optim.assignment.batch_scaling import lr_factor
from optwrap.optim.assignment.freezing import parse_freeze
from optwrap.optim.averaging.average import WeightAverage, parse_averaging
from optwrap.optim.parallel.sync import parallel_modules
from optwrap.optim.parallel.thawing import Freezer
from optwrap.optim.perturbation.sam import Sam, parse_sam
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict

NAMES = ("averaging", "sam", "freeze", "auto_scale_lr")


@dataclass
class Strategies:
    """The parts of a wrapper's config that are none of its constructor's business."""

    averaging: WeightAverage | None
    sam: Sam | None
    freeze: Mapping[str, Any]
    scaled: dict[str, str] = field(default_factory=dict)
    """What was said of the lr of `optimizer` and of `hidden_optimizer`."""

    def attach(self, optim_wrapper: OptimWrapper | OptimWrapperDict, model: nn.Module) -> None:
        """Give the wrapper of a model its strategies, and note in its assignments what they change.

        Raises:
            ConfigError: `freeze` does not fit the parameters, or there are several wrappers, which share nothing.
        """
        asked = {"averaging": self.averaging, "sam": self.sam, "freeze": self.freeze, "auto_scale_lr": self.scaled}
        if isinstance(optim_wrapper, OptimWrapperDict):
            if on := [name for name, value in asked.items() if value]:
                raise ConfigError(
                    f"optim_wrapper.{on[0]}: several wrappers do not share it. Give it below the wrapper that it "
                    f"is for, such as optim_wrapper.{next(iter(optim_wrapper))}.{on[0]}."
                )
            return
        optim_wrapper.averaging = self.averaging or optim_wrapper.averaging
        optim_wrapper.sam = self.sam or optim_wrapper.sam
        self._note_scale(optim_wrapper)
        if self.freeze:
            parts = parse_freeze(self.freeze, optim_wrapper.assignments)
            optim_wrapper.freezer = Freezer(parts, data_parallel=bool(parallel_modules(model)))

    def _note_scale(self, optim_wrapper: OptimWrapper) -> None:
        parts = getattr(optim_wrapper.optimizer, "optimizers", {})
        hidden = parts["hidden"].param_groups if "hidden" in parts else []
        of_hidden = {id(param) for group in hidden for param in group["params"]}
        for each in optim_wrapper.assignments:
            part = "hidden_optimizer" if id(each.tensor) in of_hidden else "optimizer"
            if text := self.scaled.get(part):
                each.rule = f"{each.rule}, {text}"


def take_strategies(cfg: dict[str, Any]) -> Strategies:
    """Take the strategies out of a wrapper's config, and scale the lr in it.

    Raises:
        ConfigError: one is wrong, or there is no lr to scale.
    """
    taken = {name: cfg.pop(name, None) or {} for name in NAMES}
    taken = {name: plain(value, f"optim_wrapper.{name}") for name, value in taken.items()}
    strategies = Strategies(
        _parsed(parse_averaging, taken["averaging"]), _parsed(parse_sam, taken["sam"]), taken["freeze"]
    )
    for part in ("optimizer", "hidden_optimizer"):
        _scale(cfg, part, taken["auto_scale_lr"], strategies.scaled)
    return strategies


def _parsed(parse: Callable[[Mapping[str, Any]], Any], config: Mapping[str, Any]) -> Any:
    try:
        return parse(config)
    except ConfigError as error:
        raise ConfigError(f"optim_wrapper.{error}") from error


def _scale(cfg: dict[str, Any], part: str, auto_scale: Mapping[str, Any], said: dict[str, str]) -> None:
    its_cfg = cfg.get(part)
    if auto_scale.get("base_batch_size") is None or not isinstance(its_cfg, Mapping) or "_target_" not in its_cfg:
        lr_factor({**auto_scale, "base_batch_size": None}, object, 1)  # to check its fields
        return
    key = f"optim_wrapper.{part}"
    target = its_cfg["_target_"]
    kind = target if callable(target) else locate(str(target), f"{key}._target_")
    factor, text = lr_factor(auto_scale, kind, cfg.get("accumulative_counts", 1))
    parameter = inspect.signature(kind).parameters.get("lr")
    lr = its_cfg.get("lr", parameter.default if parameter else None)
    if isinstance(lr, bool) or not isinstance(lr, int | float):
        raise ConfigError(f"{key}.lr={lr!r}: optim_wrapper.auto_scale_lr has no number to scale. Set it.")
    cfg[part] = {**its_cfg, "lr": lr * factor}
    said[part] = text
