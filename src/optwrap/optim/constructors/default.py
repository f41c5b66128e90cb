"""From (model, config) to a wrapper: the default constructor and `build_optim_wrapper`."""

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from optwrap.errors import ConfigError, did_you_mean
from optwrap.instantiate import argument_names, build, locate, partial, plain
from optwrap.optim.amp import AmpOptimWrapper
from optwrap.optim.assignment.hyperparameters import momentum_of
from optwrap.optim.assignment.params import check_trainable, walk
from optwrap.optim.assignment.paramwise import KEY, ParamwiseRules, fields_of
from optwrap.optim.assignment.rules import assign
from optwrap.optim.assignment.table import Assignment, param_groups
from optwrap.optim.assignment.type_matches import check_types
from optwrap.optim.constructors.strategies import take_strategies
from optwrap.optim.step.own_step import built_bare
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict, named_wrappers

logger = logging.getLogger(__name__)


def build_optim_wrapper(model: nn.Module, cfg: Any) -> OptimWrapper | OptimWrapperDict:
    """Build the wrapper that `cfg` describes for the parameters of `model`.

    Args:
        model: the plain model, or one in DDP, `torch.compile` or checkpoint wrappers.
        cfg: a dict or DictConfig with `optimizer: {_target_, ...}` and, each optional, `_target_` of the wrapper
            (OptimWrapper), its arguments, `calls_per_batch`, `paramwise_cfg`, `averaging`, `sam`, `freeze`,
            `auto_scale_lr` and `constructor`
            (DefaultOptimWrapperConstructor): a class called with (optim_wrapper_cfg, paramwise_cfg), then with
            the model, or a function called with (model, optim_wrapper_cfg, paramwise_cfg).

    Raises:
        ConfigError: the config does not fit; the message names the key, the value and the remedy.

    >>> cfg = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01}, "accumulative_counts": 2}
    >>> build_optim_wrapper(nn.Linear(1, 1), cfg).get_lr()
    {'lr': [0.01]}
    """
    cfg = plain(cfg, "optim_wrapper")
    paramwise_cfg = cfg.pop("paramwise_cfg", None)
    constructor = _constructor(cfg.pop("constructor", None))
    calls_per_batch = _calls_per_batch(cfg.pop("calls_per_batch", 1))
    strategies = take_strategies(cfg)  # not arguments: a wrapper of one's own need not know of them
    if inspect.isclass(getattr(constructor, "func", constructor)):
        wrapper = constructor(cfg, paramwise_cfg)(model)
    else:
        wrapper = constructor(model, cfg, paramwise_cfg)
    if not isinstance(wrapper, OptimWrapper | OptimWrapperDict):
        raise ConfigError(
            f"optim_wrapper.constructor: {constructor!r} returned {wrapper!r}. It must return an OptimWrapper or "
            "an OptimWrapperDict."
        )
    _complete(wrapper, model)
    strategies.attach(wrapper, model)
    _warn_of_momentum(wrapper)
    if isinstance(wrapper, OptimWrapper):
        wrapper.calls_per_batch = calls_per_batch
    elif calls_per_batch != 1:
        raise ConfigError(
            f"optim_wrapper.calls_per_batch={calls_per_batch:g}: several wrappers do not share it. Give it below "
            f"the wrapper that it is for, such as optim_wrapper.{next(iter(wrapper))}.calls_per_batch."
        )
    return wrapper


def _calls_per_batch(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(
            f"optim_wrapper.calls_per_batch={value!r}: it is a number above 0, 2 or 0.2 (every fifth batch)."
        )
    return float(value)


def _warn_of_momentum(optim_wrapper: OptimWrapper | OptimWrapperDict) -> None:
    groups = [group for wrapper in named_wrappers(optim_wrapper).values() for group in wrapper.param_groups]
    if (most := max(map(momentum_of, groups))) >= 1:
        logger.warning("optim_wrapper: a momentum of %g adds up all gradients without end.", most)


def _complete(optim_wrapper: OptimWrapper | OptimWrapperDict, model: nn.Module) -> None:
    """Add names and assignments where there are none: a constructor of one's own need not think of them."""
    incomplete = [
        wrapper
        for wrapper in named_wrappers(optim_wrapper).values()
        if not wrapper.assignments or any("param_names" not in group for group in wrapper.param_groups)
    ]
    names = {id(param.tensor): param.name for param in walk(model)} if incomplete else {}
    for wrapper in incomplete:
        for group in wrapper.param_groups:
            unnamed = [names.get(id(param), f"unnamed.{i}") for i, param in enumerate(group["params"])]
            group.setdefault("param_names", unnamed)
        if not wrapper.assignments:
            wrapper.assignments = [
                Assignment(name, param, {key: group[key] for key in ("lr", "weight_decay") if key in group})
                for group in wrapper.param_groups
                for name, param in zip(group["param_names"], group["params"], strict=True)
            ]


def _constructor(spec: Any) -> Callable[..., Any]:
    key = "optim_wrapper.constructor"
    if spec is None:
        return DefaultOptimWrapperConstructor
    if isinstance(spec, Mapping):
        if set(spec) != {"_target_"}:
            return partial(spec, key)
        spec = spec["_target_"]
    return spec if callable(spec) else locate(str(spec), key)


class DefaultOptimWrapperConstructor:
    """Builds one wrapper around one optimizer, its param groups assigned by `paramwise_cfg`.

    Override `assign` for a policy of your own; everything else stays.

    Raises:
        ConfigError: a field of `paramwise_cfg` is unknown or out of range.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = _optimizer_cfg(self.optim_wrapper_cfg.pop("optimizer", None))
        self.paramwise_cfg = fields_of(paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Return the wrapper for the trainable parameters of `model`."""
        trainable = check_trainable(walk(model))
        # Built once plainly, to learn the defaults of any class, and for good on the assigned groups.
        defaults = self.build_optimizer([{"params": [param.tensor for param in trainable]}]).defaults
        assignments = self.assign(model, defaults)
        wrapper = self.build_wrapper(self.build_optimizer(param_groups(assignments)))
        wrapper.assignments = list(assignments)
        return wrapper

    def assign(self, model: nn.Module, base: Mapping[str, Any]) -> list[Assignment]:
        """Return the options of every trainable parameter of `model`; `base` holds the optimizer's own."""
        rules = ParamwiseRules.from_config(self.paramwise_cfg)
        factors = rules.decay_factors
        if factors and "weight_decay" not in self.optimizer_cfg and not base.get("weight_decay"):
            name, factor = next(iter(factors.items()))
            raise ConfigError(
                f"{KEY}.{name}={factor!r}: the optimizer has no weight decay to multiply. Set "
                "optim_wrapper.optimizer.weight_decay, or remove the factor."
            )
        params = walk(model)
        assignments = assign(params, base, rules)
        check_types(params, rules, assignments)
        return assignments

    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Build the configured optimizer, `groups` as its first argument whatever that is called."""
        return build_optimizer(self.optimizer_cfg, "optim_wrapper.optimizer", groups)

    def build_wrapper(self, optimizer: Optimizer) -> OptimWrapper:
        """Build the configured wrapper around `optimizer`."""
        cfg = {"_target_": OptimWrapper} | self.optim_wrapper_cfg
        target = cfg["_target_"]
        if not callable(target):
            target = cfg["_target_"] = locate(str(target), "optim_wrapper._target_")
        _check_wrapper_arguments(target, [name for name in cfg if not name.startswith("_")])
        if getattr(optimizer, "is_second_order", False) and target in (OptimWrapper, AmpOptimWrapper):
            raise ConfigError(
                f"optim_wrapper.optimizer: {type(optimizer).__name__} differentiates gradients, of which "
                "optim_wrapper keeps no graph. Choose another, or a wrapper of your own whose backward has "
                "create_graph=True."
            )
        try:
            return build(cfg, "optim_wrapper", optimizer)
        except ConfigError as error:  # a wrapper names its arguments only, `clip_grad.max_norm`
            text = str(error)
            raise ConfigError(text if text.startswith("optim_wrapper") else f"optim_wrapper.{text}") from error


def build_optimizer(cfg: Mapping[str, Any], key: str, groups: list[dict[str, Any]]) -> Optimizer:
    """Build an optimizer on param groups.

    Raises:
        ConfigError: it refuses its arguments, or what was built is no optimizer.
    """
    try:
        with built_bare():
            optimizer = build(cfg, key, groups)
    except ConfigError as error:
        if "has no argument" not in str(error) or str(cfg["_target_"]).startswith("torch.optim."):
            raise
        raise ConfigError(
            f"{error} The keys of an optimizer in the list, as in optim_wrapper=[adamw,amp], stay when another "
            f"class is typed: leave it out of the list, optim_wrapper=[amp], and give {key}={{_target_: "
            f"{cfg['_target_']}, lr: ...}}."
        ) from error
    except TypeError as error:  # a string where it compares numbers, or `params` given twice
        texts = [name for name, value in cfg.items() if isinstance(value, str) and value[-1:].isdigit()]
        said = "".join(f" {key}.{name}={cfg[name]!r} is a text: leave its quotes out." for name in texts)
        raise ConfigError(f"{key}: {error}.{said}") from error
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"{key}._target_={cfg['_target_']}: this is no torch.optim.Optimizer.")
    return optimizer


def _optimizer_cfg(cfg: Any) -> dict[str, Any]:
    if cfg in (None, "???"):
        raise ConfigError(
            "optim_wrapper.optimizer is not set. Add an optimizer to the list, as in optim_wrapper=[sgd,amp], or "
            "give one: optim_wrapper.optimizer={_target_: torch.optim.SGD, lr: 0.1}."
        )
    if isinstance(cfg, str):
        raise ConfigError(
            f"optim_wrapper.optimizer={cfg}: choose an optimizer by its mixin, optim_wrapper={cfg} or "
            f"optim_wrapper=[{cfg},...]."
        )
    cfg = plain(cfg, "optim_wrapper.optimizer")
    if cfg.get("_target_") in (None, "???") and "type" not in cfg:
        raise ConfigError(
            f"optim_wrapper.optimizer={cfg}: these are arguments of no optimizer. Add one to the list, as in "
            "optim_wrapper=[sgd,amp], or name its class: optim_wrapper.optimizer._target_=torch.optim.SGD."
        )
    return cfg


def _check_wrapper_arguments(target: Any, given: Sequence[str]) -> None:
    known = argument_names(target)
    unknown = [] if known is None else [name for name in given if name not in known]
    if not unknown:
        return
    of_amp = unknown[0] in (argument_names(AmpOptimWrapper) or ())
    remedy = "Add amp to the optim_wrapper list (_target_: optwrap.optim.AmpOptimWrapper)." if of_amp else ""
    if of_amp and target is not OptimWrapper:
        remedy = "For mixed precision derive it from optwrap.optim.AmpOptimWrapper; else leave amp out."
    known = [*(known or []), "paramwise_cfg", "constructor"]
    raise ConfigError(
        f"optim_wrapper.{unknown[0]}: {target.__name__} has no argument {unknown[0]!r}."
        f"{did_you_mean(unknown[0], known)} {remedy or 'Fields: ' + ', '.join(known) + '.'}"
    )
