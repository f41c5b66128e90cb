"""Layer-wise learning-rate decay: by depth of nesting, or by blocks as in fine-tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.assignment import Assignment
from optwrap.optim.constructors import DefaultOptimWrapperConstructor
from optwrap.optim.params import unwrap, walk
from optwrap.optim.rules import KEY

_OWN_FIELDS = ("decay_factor", "decay_by", "blocks", "head", "no_decay_1d")


class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Multiplies the learning rate by a power of `decay_factor` that grows away from the model's head.

    `paramwise_cfg` holds, beside the fields of the default constructor:
        decay_factor: the factor of one layer, above 0 and at most 1.
        decay_by: 'depth' (each level of module nesting multiplies) or 'block' (the stem lowest, block i of n
            `factor ** (n + 1 - i)`, what follows the last block 1).
        blocks: for 'block', prefixes of the blocks in their order (`encoder.layer.*`: every child); found where
            left out. `head`: prefixes that count as head wherever the model defines them.
        no_decay_1d: no weight decay on one-dimensional parameters.

    Source: Bao et al., BEiT, 2022; Clark et al., ELECTRA, 2020.

    Raises:
        ConfigError: a field is out of range, or the blocks cannot be found.
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
        self.blocks: Sequence[str] = own.get("blocks", ())
        self.head: Sequence[str] = own.get("head", ())
        if own.get("no_decay_1d"):
            if cfg.get("flat_decay_mult") is not None:
                raise ConfigError(
                    f"{KEY}.no_decay_1d=true and {KEY}.flat_decay_mult={cfg['flat_decay_mult']} both decide the "
                    "weight decay of one-dimensional parameters: set one of them to null."
                )
            cfg["flat_decay_mult"] = 0.0
        super().__init__(optim_wrapper_cfg, cfg)

    def assign(self, model: nn.Module, base: Mapping[str, Any]) -> list[Assignment]:
        """Return the default constructor's options, the learning rate times the scale of its layer."""
        assignments = super().assign(model, base)
        names = [param.name for param in walk(model)]
        exponents = {name: name.count(".") for name in names}
        if self.decay_by == "block":
            model = unwrap(model)
            blocks = expand_blocks(model, self.blocks) if self.blocks else find_blocks(model)
            ids = layer_ids(names, blocks, self.head)
            exponents = {name: len(blocks) + 1 - layer for name, layer in ids.items()}
        return [_scaled(each, self.decay_factor, exponents[each.name]) for each in assignments]


def layer_ids(names: Sequence[str], blocks: Sequence[str], head: Sequence[str] = ()) -> dict[str, int]:
    """Number parameters by layer: 0 before the first block, i in block i, then n + 1; pure, in model order.

    What lies between two blocks (downsampling) belongs to the block that follows. `head` names prefixes that
    are n + 1 wherever they stand.

    >>> layer_ids(["embed", "layers.0.w", "layers.1.w", "norm", "head.w"], ["layers.0", "layers.1"])
    {'embed': 0, 'layers.0.w': 1, 'layers.1.w': 2, 'norm': 3, 'head.w': 3}
    """
    block_of = {name: _block_of(name, blocks) for name in names}
    ids: dict[str, int] = {}
    last = len(blocks) + 1
    following = last
    for name in reversed(names):  # what follows decides, so go backwards
        if _has_prefix(name, head):
            ids[name] = last
            continue
        following = block_of[name] or following
        ids[name] = following
    first = next((i for i, name in enumerate(names) if block_of[name]), 0)
    stem = {name: 0 for name in names[:first] if ids[name] != last}
    return {name: stem.get(name, ids[name]) for name in names}


def find_blocks(model: nn.Module) -> list[str]:
    """Return the prefixes of the model's blocks: the children of its outermost containers of equal modules.

    It finds those of torchvision's ViT, Swin, ConvNeXt, ResNet and EfficientNet, and of most transformers.

    Raises:
        ConfigError: there are none; the message shows the names it saw.
    """
    blocks = [f"{path}.{name}" for path, module in _containers(model) for name, _ in module.named_children()]
    if not blocks:
        seen = [name for name, _ in model.named_children()]
        raise ConfigError(
            f"{KEY}.decay_by=block: no blocks found in {type(model).__name__}, whose children are "
            f"{', '.join(seen) or 'none'}. List their prefixes in order: {KEY}.blocks=[layer1,layer2], or "
            "['encoder.layer.*'] for every child of a container."
        )
    return blocks


def expand_blocks(model: nn.Module, prefixes: Sequence[str]) -> list[str]:
    """Return the prefixes with `path.*` replaced by every child of `path`.

    Raises:
        ConfigError: a prefix names no module; the message names the nearest.
    """
    modules = dict(model.named_modules())
    blocks: list[str] = []
    for prefix in prefixes:
        path = prefix.removesuffix(".*")
        if path not in modules:
            raise ConfigError(
                f"{KEY}.blocks: {prefix!r} names no module of the model.{did_you_mean(path, modules)} "
                f"Its children: {', '.join(name for name, _ in model.named_children())}."
            )
        children = [f"{path}.{name}" for name, _ in modules[path].named_children()]
        blocks += children if prefix != path else [path]
    return blocks


def _containers(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        if _is_container_of_blocks(child):
            found.append((path, child))
        else:
            found += _containers(child, f"{path}.")
    return found


def _is_container_of_blocks(module: nn.Module) -> bool:
    children = list(module.children())
    kinds = {type(child) for child in children}
    composite = all(any(True for _ in child.children()) for child in children)
    return isinstance(module, nn.Sequential | nn.ModuleList) and len(kinds) == 1 and composite


def _block_of(name: str, blocks: Sequence[str]) -> int:
    return next((i for i, block in enumerate(blocks, start=1) if _has_prefix(name, (block,))), 0)


def _has_prefix(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


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
