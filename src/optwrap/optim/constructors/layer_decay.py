"""Layer-wise learning-rate decay: by depth of nesting, or by blocks as in fine-tuning."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim.assignment.blocks import Block, expand_layers, find_blocks, numbers
from optwrap.optim.assignment.layers.place import layer_of_each
from optwrap.optim.assignment.layers.words import told_exponents
from optwrap.optim.assignment.params import NamedParam, walk
from optwrap.optim.assignment.paramwise import KEY, fields_of
from optwrap.optim.assignment.rules import check_duplicates
from optwrap.optim.assignment.table import Assignment
from optwrap.optim.constructors.default import DefaultOptimWrapperConstructor

logger = logging.getLogger(__name__)

_OWN_FIELDS = ("decay_factor", "decay_by", "blocks", "head")
_MOST = 0.8  # of all weights, outside of the blocks that are listed: some have been forgotten
_KINDS = ("depth", "block", "stage")


class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Multiplies the learning rate by a power of `decay_factor` that grows away from the model's head.

    `paramwise_cfg` holds, beside the fields of the default constructor:
        decay_factor: the factor of one layer, above 0 and at most 1.
        decay_by: 'depth' (each level of module nesting multiplies), 'block' (the stem lowest, block i of n
            `factor ** (n + 1 - i)`, what follows the last block 1) or 'stage' (the same with stages of blocks).
        blocks: prefixes of the blocks in their order (`encoder.layer.*`: every child; a list of prefixes is one
            block, an empty one a layer that holds nothing). Where left out, they are as the model says, by
            `group_matcher` (timm) or `get_layer_depth` (MMPretrain), or else found.
        head: prefixes that count as head wherever the model defines them, as do modules that are named so
            (`head`, `classifier`, `fc`, ...) and single numbers of the model itself (`logit_scale`).

    Source: Bao et al., BEiT, 2022; Clark et al., ELECTRA, 2020.

    Raises:
        ConfigError: a field is out of range, the blocks cannot be found, or a parameter has two names, and so
            two layers, without `bypass_duplicate`.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        cfg = fields_of(paramwise_cfg)
        own = {name: cfg.pop(name) for name in _OWN_FIELDS if cfg.get(name) is not None}
        cfg = {name: value for name, value in cfg.items() if name not in _OWN_FIELDS}
        self.decay_factor = _factor(own.get("decay_factor"))
        self.decay_by = own.get("decay_by", "depth")
        if self.decay_by not in _KINDS:
            raise ConfigError(f"{KEY}.decay_by={self.decay_by!r}: it is {', '.join(_KINDS[:-1])} or {_KINDS[-1]}.")
        self.blocks: list[Block] = _blocks(own.get("blocks"))
        self.head = _prefixes("head", own.get("head"))
        if self.decay_by == "depth" and (self.blocks or self.head):
            raise ConfigError(f"{KEY}.decay_by=depth takes no {KEY}.blocks or .head: they are for decay_by=block.")
        super().__init__(optim_wrapper_cfg, cfg)

    def assign(self, model: nn.Module, base: Mapping[str, Any]) -> list[Assignment]:
        """Return the default constructor's options, the learning rate times the scale of its layer."""
        assignments = super().assign(model, base)
        params = walk(model)
        if not self.paramwise_cfg.get("bypass_duplicate"):
            check_duplicates(params)
        exponents = self._exponents(model, params)
        options: dict[tuple[int, int], Mapping[str, Any]] = {}  # parameters with equal ones share them
        for each in assignments:
            key = (id(each.options), exponents[each.name])
            if key not in options:
                options[key] = {**each.options, "lr": each.options["lr"] * self.decay_factor ** key[1]}
        return [_scaled(each, options, exponents[each.name]) for each in assignments]

    def _exponents(self, model: nn.Module, params: Sequence[NamedParam]) -> dict[str, int]:
        """Return by how many layers each parameter lies below the head, or with `depth` below the root."""
        names = [param.name for param in params]
        if self.decay_by == "depth":
            return {name: name.count(".") for name in names}
        told, by = ({}, "") if self.blocks else told_exponents(model, params, self.decay_by)
        if told:
            of_head = numbers(names, self.head)
            found = {name: 0 if of_head[name] else exponent for name, exponent in told.items()}
            logger.info("%s: %d layers, as the model's %s says.", KEY, 1 + max(found.values()), by)
            return found
        blocks: Sequence[Block] = (
            expand_layers(model, self.blocks) if self.blocks else find_blocks(model, self.decay_by)
        )
        layers = layer_of_each(params, blocks, self.head)
        _say(params, blocks, layers, listed=bool(self.blocks))
        return {name: len(blocks) + 1 - layer for name, layer in layers.items()}


def _say(params: Sequence[NamedParam], blocks: Sequence[Block], layers: Mapping[str, int], listed: bool) -> None:
    sizes = {param.name: param.tensor.numel() for param in params}
    outside = sum(size for name, size in sizes.items() if layers[name] in (0, len(blocks) + 1))
    how = "as listed" if listed else f"found: {', '.join(map(str, blocks[:2]))}, ..., {blocks[-1]}"
    logger.info("%s: %d blocks, %s.", KEY, len(blocks), how)
    if listed and outside > _MOST * sum(sizes.values()):
        logger.warning(
            "%s.blocks: %.0f %% of the weights lie in none of the %d blocks, and count as stem or head.",
            *(KEY, 100 * outside / sum(sizes.values()), len(blocks)),
        )


def _scaled(
    assignment: Assignment, options: Mapping[tuple[int, int], Mapping[str, Any]], exponent: int
) -> Assignment:
    layer = f"decay_factor ** {exponent}"
    rule = layer if assignment.rule == "base" else f"{assignment.rule} + {layer}"
    return replace(assignment, options=options[id(assignment.options), exponent], rule=rule)


def _factor(value: Any) -> float:
    if value is None:
        raise ConfigError(f"{KEY}.decay_factor is not set: give a number above 0 and at most 1, such as 0.75.")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConfigError(f"{KEY}.decay_factor={value!r}: it is a number above 0 and at most 1.")
    return float(value)


def _blocks(value: Any) -> list[Block]:
    blocks: list[Block] = [
        each if isinstance(each, str) else _prefixes("blocks", each) for each in _listed("blocks", value)
    ]
    if blocks and not any(blocks):
        raise ConfigError(f"{KEY}.blocks={value!r}: every block of it is empty.")
    return blocks


def _prefixes(field: str, value: Any) -> list[str]:
    prefixes = _listed(field, value)
    for each in prefixes:
        if not isinstance(each, str):
            raise ConfigError(f"{KEY}.{field}: {each!r} is no prefix of a module's name, such as encoder.layer.0.")
    return prefixes


def _listed(field: str, value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list | tuple):
        raise ConfigError(f"{KEY}.{field}={value!r}: it is a list of prefixes: [{value}].")
    return list(value or ())
