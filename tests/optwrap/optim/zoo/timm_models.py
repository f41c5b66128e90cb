"""What timm says of its models beside what optwrap does with them, on the meta device."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import timm
import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import LayerDecayOptimWrapperConstructor, ParamwiseRules, assign, walk
from optwrap.optim.assignment.blocks import find_blocks
from optwrap.optim.assignment.kinds import is_norm
from optwrap.optim.assignment.layers.place import layer_of_each

FACTOR, DECAY = 0.75, 0.05
BASE = {"lr": 1.0, "weight_decay": DECAY}
# Where timm defines its norm layers; torch's are what these derive from, or stand beside them.
NORM_MODULES = ("norm", "norm_act", "grn", "evo_norm", "filter_response_norm", "split_batchnorm")


@dataclass(frozen=True)
class Outcome:
    """What was compared for one model."""

    name: str
    told: bool  # has it a group_matcher?
    scales: bool  # learning rates and weight decay are timm's, parameter by parameter
    found: int  # the blocks that are found without the model's word; 0: none, or several stacks
    alike: bool  # their learning rates are timm's, but for the convention below
    decay: bool  # the weight decay of norm + bias + flat is timm's
    norms: bool  # every parameter of a norm layer is known as such


def names(each_module: int | None = None) -> list[str]:
    """Return all models of timm, or so many of each of its modules, evenly spaced."""
    if each_module is None:
        return timm.list_models()
    return [
        name for module in timm.list_modules() for name in _spaced(timm.list_models(module=module), each_module)
    ]


def _spaced(items: list[str], count: int) -> list[str]:
    if len(items) <= count:
        return items
    return [items[i * (len(items) - 1) // (count - 1)] for i in range(count)]


def outcomes(models: list[str]) -> Iterator[Outcome]:
    """Yield what was compared, model by model."""
    for name in models:
        with torch.device("meta"):
            model = timm.create_model(name)
        yield compare(name, model)


def compare(name: str, model: nn.Module) -> Outcome:
    """Compare one model."""
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    groups = param_groups_layer_decay(model, DECAY, spared, layer_decay=FACTOR)
    theirs = {id(p): (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    params = walk(model)
    blocks = _blocks(model)
    layers = layer_of_each(params, blocks) if blocks else {}
    below = {param.name: len(blocks) + 1 - layers[param.name] for param in params} if blocks else {}
    timms = {param.name: round(math.log(theirs[id(param.tensor)][0], FACTOR)) for param in params}
    norms = {param.name for param in params if is_norm(param)}
    return Outcome(
        name,
        hasattr(model, "group_matcher"),
        _options(model) == {key: rounded(value) for key, value in theirs.items()},
        len(blocks),
        bool(blocks) and _are_alike(below, timms, norms),
        _decayed(model) == _timms_decayed(model),
        all(param.name in norms for param in params if _is_timms_norm(param.owner)),
    )


def rounded(value: tuple[float, float]) -> tuple[float, float]:
    """Round a pair, so that two ways of computing a power compare equal."""
    return float(f"{value[0]:.9g}"), value[1]


def _options(model: nn.Module) -> dict[int, tuple[float, float]]:
    optimizer = {"optimizer": {"_target_": "torch.optim.AdamW", **BASE}}
    cfg = {"decay_factor": FACTOR, "decay_by": "block", "no_decay_1d": True, "bypass_duplicate": True}
    try:
        assignments = LayerDecayOptimWrapperConstructor(optimizer, cfg).assign(model, BASE)
    except ConfigError:
        return {}
    return {id(a.tensor): rounded((a.options["lr"], a.options["weight_decay"])) for a in assignments}


def _blocks(model: nn.Module) -> list[str]:
    try:
        return find_blocks(model)
    except ConfigError:
        return []


def _are_alike(below: dict[str, int], timms: dict[str, int], norms: set[str]) -> bool:
    """Whether two numberings are one, but for the norm behind the last block and a model without a head.

    timm counts the final norm with the last block, and gives the last block of a model without a head, and what
    stands beside it, the full lr.
    """
    final = {name for name in norms if below[name] == 0}
    shifts = {below[name] - timms[name] for name in below if name not in final}
    return len(shifts) == 1 and min(shifts) in (0, 1)


def _decayed(model: nn.Module) -> set[int]:
    rules = ParamwiseRules(norm_decay_mult=0, bias_decay_mult=0, flat_decay_mult=0, bypass_duplicate=True)
    return {id(a.tensor) for a in assign(walk(model), BASE, rules) if a.options["weight_decay"]}


def _timms_decayed(model: nn.Module) -> set[int]:
    groups = param_groups_weight_decay(model, DECAY)
    return {id(param) for group in groups for param in group["params"] if group["weight_decay"]}


def _is_timms_norm(module: nn.Module) -> bool:
    places = {cls.__module__ for cls in type(module).__mro__}
    torchs = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    return isinstance(module, torchs) or any(f"timm.layers.{place}" in places for place in NORM_MODULES)
