"""Layer-wise learning-rate decay: by depth of nesting, or by blocks as in fine-tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim.assignment.blocks import expand_blocks, find_blocks, layer_ids
from optwrap.optim.assignment.head import is_named_head
from optwrap.optim.assignment.params import NamedParam, unwrap, walk
from optwrap.optim.assignment.paramwise import KEY
from optwrap.optim.assignment.rules import check_duplicates
from optwrap.optim.assignment.table import Assignment
from optwrap.optim.constructors.default import DefaultOptimWrapperConstructor

_OWN_FIELDS = ("decay_factor", "decay_by", "blocks", "head", "no_decay_1d")


class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Multiplies the learning rate by a power of `decay_factor` that grows away from the model's head.

    `paramwise_cfg` holds, beside the fields of the default constructor:
        decay_factor: the factor of one layer, above 0 and at most 1.
        decay_by: 'depth' (each level of module nesting multiplies) or 'block' (the stem lowest, block i of n
            `factor ** (n + 1 - i)`, what follows the last block 1).
        blocks: for 'block', prefixes of the blocks in their order (`encoder.layer.*`: every child); found where
            left out. `head`: prefixes that count as head wherever the model defines them, as do modules that are
            named so (`head`, `classifier`, `fc`, ...) and single numbers of the model itself (`logit_scale`).
        no_decay_1d: no weight decay on one-dimensional parameters, nor on those that the model's own
            `no_weight_decay()` names, as timm's models have it.

    Source: Bao et al., BEiT, 2022; Clark et al., ELECTRA, 2020.

    Raises:
        ConfigError: a field is out of range, the blocks cannot be found, or a parameter has two names, and so
            two layers, without `bypass_duplicate`.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        cfg = dict(paramwise_cfg or {})
        own = {name: cfg.pop(name) for name in _OWN_FIELDS if cfg.get(name) is not None}
        cfg = {name: value for name, value in cfg.items() if name not in _OWN_FIELDS}
        self.decay_factor = _factor(own.get("decay_factor"))
        self.decay_by = own.get("decay_by", "depth")
        if self.decay_by not in ("depth", "block"):
            raise ConfigError(f"{KEY}.decay_by={self.decay_by!r}: it is depth or block.")
        self.blocks = _prefixes("blocks", own.get("blocks"))
        self.head = _prefixes("head", own.get("head"))
        if self.decay_by == "depth" and (self.blocks or self.head):
            raise ConfigError(f"{KEY}.decay_by=depth takes no {KEY}.blocks or .head: they are for decay_by=block.")
        self.no_decay_1d = bool(own.get("no_decay_1d"))
        if self.no_decay_1d and cfg.get("flat_decay_mult") is not None:
            raise ConfigError(
                f"{KEY}.no_decay_1d=true and {KEY}.flat_decay_mult={cfg['flat_decay_mult']} both decide the "
                "weight decay of one-dimensional parameters: set one of them to null."
            )
        super().__init__(optim_wrapper_cfg, cfg)

    def assign(self, model: nn.Module, base: Mapping[str, Any]) -> list[Assignment]:
        """Return the default constructor's options, the learning rate times the scale of its layer."""
        if self.no_decay_1d and base.get("weight_decay"):  # without any weight decay it is so already
            self.paramwise_cfg["flat_decay_mult"] = 0.0
        assignments = super().assign(model, base)
        params = walk(model)
        if not self.paramwise_cfg.get("bypass_duplicate"):
            check_duplicates(params)
        if self.no_decay_1d:
            assignments = _spared(assignments, _named_by(model))
        exponents = self._exponents(model, params)
        return [_scaled(each, self.decay_factor, exponents[each.name]) for each in assignments]

    def _exponents(self, model: nn.Module, params: Sequence[NamedParam]) -> dict[str, int]:
        names = [param.name for param in params]
        if self.decay_by == "depth":
            return {name: name.count(".") for name in names}
        blocks = expand_blocks(model, self.blocks) if self.blocks else find_blocks(model)
        ids = layer_ids(names, blocks, self.head)
        # What stands before the blocks is the stem, unless it says that it is not.
        ids |= {param.name: len(blocks) + 1 for param in params if ids[param.name] == 0 and _is_of_head(param)}
        return {name: len(blocks) + 1 - layer for name, layer in ids.items()}


def _is_of_head(param: NamedParam) -> bool:
    *modules, _ = param.name.split(".")
    return any(map(is_named_head, modules)) if modules else param.tensor.numel() == 1


def _named_by(model: nn.Module) -> set[str]:
    method = getattr(unwrap(model), "no_weight_decay", None)
    return set(method()) if callable(method) else set()


def _spared(assignments: Sequence[Assignment], names: set[str]) -> list[Assignment]:
    """Return the assignments, without weight decay on what the model names; a custom key decides alone."""
    return [
        replace(each, options={**each.options, "weight_decay": 0.0}, rule="no_weight_decay()")
        if each.name in names and each.options.get("weight_decay") and not each.rule.startswith("custom_keys")
        else each
        for each in assignments
    ]


def _scaled(assignment: Assignment, factor: float, exponent: int) -> Assignment:
    options = {**assignment.options, "lr": assignment.options["lr"] * factor**exponent}
    layer = f"decay_factor ** {exponent}"
    rule = layer if assignment.rule == "base" else f"{assignment.rule} + {layer}"
    return replace(assignment, options=options, rule=rule)


def _factor(value: Any) -> float:
    if value is None:
        raise ConfigError(f"{KEY}.decay_factor is not set: give a number above 0 and at most 1, such as 0.75.")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConfigError(f"{KEY}.decay_factor={value!r}: it is a number above 0 and at most 1.")
    return float(value)


def _prefixes(field: str, value: Any) -> list[str]:
    if isinstance(value, str):
        raise ConfigError(f"{KEY}.{field}={value!r}: it is a list of prefixes: [{value}].")
    return list(value or ())
