"""Constructors whose lr falls by layer: MMPretrain's, and that of MMDetection and MMSegmentation."""

from typing import Any

from optwrap.from_mmengine.paramwise import FACTORS, custom_keys_of
from optwrap.from_mmengine.part import Part, last_name

BY_MODEL = "LearningRateDecayOptimWrapperConstructor"  # MMPretrain's, which asks the model
BY_NAMES = ("LearningRateDecayOptimizerConstructor", "LayerDecayOptimizerConstructor")


def by_model(cfg: dict[str, Any], where: str) -> Part:
    """Return what MMPretrain's constructor does: `layer_decay_rate`, by the model's own `get_layer_depth`."""
    part = Part(options=["layer_decay"])
    fields: dict[str, Any] = {"decay_factor": float(cfg.get("layer_decay_rate", 1.0)), "decay_by": "block"}
    fields |= {name: cfg[name] for name in FACTORS[1:4] if cfg.get(name) is not None}
    keys = custom_keys_of(cfg.get("custom_keys") or {}, part, where)
    if unread := [key for key, options in keys.items() if "lr_mult" in options]:
        part.notes.append(f"{where}.custom_keys: lr_mult of {', '.join(unread)} is not read by that constructor.")
    fields["custom_keys"] = {
        key: {name: value for name, value in options.items() if name != "lr_mult"} for key, options in keys.items()
    }
    part.leave_rest(where, cfg, ("layer_decay_rate", *FACTORS[1:4], "custom_keys"))
    part.notes.append(
        f"{where}.layer_decay_rate: the layers are those that the model says (get_layer_depth, group_matcher), "
        "else those that are found; optim_wrapper.paramwise_cfg.blocks=[...] lists them."
    )
    part.keys["paramwise_cfg"] = {**fields, "bypass_duplicate": True, "strict": False}
    return part


def by_names(constructor: str, cfg: dict[str, Any], backbone: Any, where: str) -> Part:
    """Return what the constructor of MMDetection and MMSegmentation does, by the names in its backbones.

    Args:
        constructor: its name.
        cfg: `decay_rate`, `decay_type`, `num_layers`; it reads nothing else.
        backbone: the type of the backbone.
    """
    part = Part(options=["layer_decay"])
    vit = constructor == BY_NAMES[1]
    rate_name = "layer_decay_rate" if vit else "decay_rate"
    kind, layers = str(cfg.get("decay_type", "layer_wise")), int(cfg.get("num_layers", 0))
    fields: dict[str, Any] = {"decay_factor": float(cfg.get(rate_name, 1.0)), "decay_by": "block"}
    fields["no_decay_1d"] = True
    if blocks := _blocks(last_name(backbone), kind, layers, vit):
        fields["blocks"] = blocks
    else:
        part.leave(
            f"{where}.decay_type",
            kind,
            f"of {backbone} with num_layers={layers} this is an error there. "
            "optim_wrapper.paramwise_cfg.blocks=[...]",
        )
    if unread := sorted(cfg.keys() - {rate_name, "decay_type", "num_layers", "_scope_"}):
        part.notes.append(f"{where}: {', '.join(unread)} are not read by that constructor, and left out.")
    part.keys["paramwise_cfg"] = {**fields, "bypass_duplicate": True, "strict": False}
    return part


def _blocks(backbone: str, kind: str, layers: int, vit: bool) -> list[Any]:
    """Return the blocks, each with all prefixes that count as one layer; an empty one counts as a layer too."""
    if vit or backbone in ("BEiT", "MAE"):
        return ["backbone.layers.*"]
    if "ConvNeXt" not in backbone:
        return []
    stages = [f"backbone.stages.{i}" for i in range(4)]
    down = [f"backbone.downsample_layers.{i}" for i in range(4)]
    if kind == "stage_wise":  # the head is as far away as if there were so many layers, and not four stages
        return [down, *([stage] for stage in stages), *([] for _ in range(layers - 4))]
    if layers < 4:  # a layer each for the other stages, and one at least for the third
        return []
    third = [[f"{stages[2]}.{i}" for i in range(first, first + 3)] for first in range(0, 3 * (layers - 3), 3)]
    return [[stages[0]], [down[1], stages[1]], [down[2], *third[0]], *third[1:], [down[3], stages[3]]]
