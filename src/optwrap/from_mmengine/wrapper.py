"""`optim_wrapper` of a config: one wrapper, or several."""

import re
from collections.abc import Mapping
from typing import Any

from optwrap.errors import ConfigError
from optwrap.from_mmengine import layer_decay
from optwrap.from_mmengine.optimizers import optimizer_of
from optwrap.from_mmengine.paramwise import paramwise_of
from optwrap.from_mmengine.part import Part, last_name

_AMP = ("loss_scale", "dtype")
_READ = ("type", "optimizer", "accumulative_counts", "clip_grad", "paramwise_cfg", "constructor", *_AMP)
_CLIP = ("type", "max_norm", "norm_type", "error_if_nonfinite", "clip_value")
_SEVERAL = "MultiOptimWrapperConstructor"


def optim_wrapper_of(cfg: dict[str, Any], model: Any, where: str = "optim_wrapper") -> Part:
    """Return what `optim_wrapper` becomes, `model` being the config of the model."""
    if "optimizer" not in cfg:
        return _several(cfg, model, where)
    if not isinstance(cfg["optimizer"], Mapping) or not cfg["optimizer"].get("type"):
        raise ConfigError(f"{where}.optimizer={cfg['optimizer']!r}: it names no class, as dict(type='SGD') does.")
    part = Part()
    for other in (
        _kind(cfg, where),
        optimizer_of(cfg["optimizer"], f"{where}.optimizer"),
        _clip_grad(cfg.get("clip_grad"), f"{where}.clip_grad"),
        _rules(cfg, model, where),
    ):
        part.add(other)
    if (counts := cfg.get("accumulative_counts", 1)) != 1:
        part.keys["accumulative_counts"] = counts
    if "modules" in cfg:
        part.leave(
            f"{where}.modules",
            cfg["modules"],
            "only what it matches is trained there. Freeze all else: optim_wrapper.freeze={part_of_a_name: null}",
        )
    part.leave_rest(where, cfg, (*_READ, "modules"))
    part.options.sort(key=lambda option: option in ("amp", "layer_decay"))  # the optimizer first
    return part


def _several(cfg: dict[str, Any], model: Any, where: str) -> Part:
    """Return a part with one inside for each wrapper."""
    part = Part(options=["multi"])
    found = {name: value for name, value in cfg.items() if isinstance(value, Mapping) and "optimizer" in value}
    wrappers = {name: value for name, value in found.items() if re.fullmatch(r"\w+", name)}
    for name in found.keys() - wrappers.keys():
        part.leave(
            f"{where}.{name}", found[name], "no name of one submodule. For each: optim_wrapper={name: {...}}"
        )
    name = last_name(cfg.get("constructor"))
    if name != _SEVERAL:
        part.leave(
            f"{where}.constructor",
            cfg.get("constructor"),
            "taken for several wrappers, one for each submodule. "
            "optim_wrapper.constructor={_target_: package.of.your.own}",
        )
    for key, value in wrappers.items():
        its_model = model.get(key) if isinstance(model, Mapping) else None
        part.inner[key] = optim_wrapper_of(dict(value), its_model or model, f"{where}.{key}")
    part.leave_rest(where, cfg, ("constructor", "type", *found))
    return part


def _kind(cfg: dict[str, Any], where: str) -> Part:
    """Return plain or mixed precision."""
    part = Part()
    name = last_name(cfg.get("type", "OptimWrapper"))
    amp = {key: cfg[key] for key in _AMP if key in cfg}
    if name == "AmpOptimWrapper":
        part.options.append("amp")
        part.keys |= {key: value for key, value in amp.items() if value is not None and value != "dynamic"}
        if isinstance(part.keys.get("dtype"), str):
            part.keys["dtype"] = part.keys["dtype"].removeprefix("torch.")
        return part
    for key, value in amp.items():
        part.leave(f"{where}.{key}", value, "of mixed precision alone: add amp, optim_wrapper=[sgd,amp]")
    if name in ("ApexOptimWrapper", "DeepSpeedOptimWrapper"):
        instead = (
            "optim_wrapper=[sgd,amp]" if name.startswith("Apex") else "strategy=fsdp2, and amp for its precision"
        )
        part.leave(f"{where}.type", name, f"a plain wrapper stands for it: {instead}")
    elif name != "OptimWrapper":
        part.keys["_target_"] = str(cfg["type"])
        part.leave(f"{where}.type", cfg["type"], "where it is imported from: optim_wrapper._target_=package.Class")
    return part


def _clip_grad(cfg: dict[str, Any] | None, where: str) -> Part:
    part = Part()
    if not cfg:
        return part
    given = {name: cfg[name] for name in _CLIP if cfg.get(name) is not None}
    by_value = given.get("type") == "value" or "clip_value" in given
    if not by_value and "max_norm" not in given:
        part.leave(where, cfg, "no max_norm is given: optim_wrapper.clip_grad.max_norm=1")
        return part
    part.keys["clip_grad"] = {
        name: float(value) if name in ("max_norm", "norm_type", "clip_value") else value
        for name, value in given.items()
    }
    part.leave_rest(where, cfg, (*_CLIP, "foreach"))  # which changes no result
    return part


def _rules(cfg: dict[str, Any], model: Any, where: str) -> Part:
    """Return `paramwise_cfg` as the constructor reads it."""
    key = f"{where}.paramwise_cfg"
    given = cfg.get("paramwise_cfg") or {}
    if not isinstance(given, Mapping):
        part = Part()
        part.leave(key, given, "it holds no fields: optim_wrapper.paramwise_cfg.norm_decay_mult=0")
        return part
    constructor = last_name(cfg.get("constructor") or "DefaultOptimWrapperConstructor")
    if constructor == layer_decay.BY_MODEL:
        return layer_decay.by_model(dict(given), key)
    if constructor in layer_decay.BY_NAMES:
        backbone = model.get("backbone") if isinstance(model, Mapping) else None
        return layer_decay.by_names(constructor, dict(given), (backbone or {}).get("type"), key)
    part = paramwise_of(given, model, key)
    if constructor not in ("DefaultOptimWrapperConstructor", "ForceDefaultOptimWrapperConstructor", _SEVERAL):
        part.leave(
            f"{where}.constructor",
            cfg["constructor"],
            "a subclass of DefaultOptimWrapperConstructor with assign: "
            "optim_wrapper.constructor={_target_: package.Class}",
        )
    return part
