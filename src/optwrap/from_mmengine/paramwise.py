"""The rules for single parameters: `paramwise_cfg` of MMEngine's constructors."""

from collections.abc import Iterator, Mapping
from typing import Any

from optwrap.from_mmengine.part import Part

FACTORS = (
    *("bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "flat_decay_mult", "dwconv_decay_mult"),
    "dcn_offset_lr_mult",
)
FORCED = "force_default_settings"  # of MMSegmentation's constructor
_NORMS = {  # of a type of norm layer, how modules of MMEngine's models call theirs
    "BN": ("bn", "bn1", "bn2", "bn3", "norm", "downsample.1"),
    "GN": ("gn", "gn1", "gn2", "gn3"),
    "LN": ("ln", "ln1", "ln2", "norm", "norm1", "norm2"),
    "IN": ("in",),
}


def paramwise_of(cfg: Mapping[str, Any] | None, model: Any, where: str) -> Part:
    """Return `paramwise_cfg` in our words, `strict: false` where it says anything at all.

    Args:
        cfg: the fields; null ones are off.
        model: the config of the model, which tells what its norm layers are called.
        where: the key of the config, for what is left.
    """
    part = Part()
    given = {name: value for name, value in (cfg or {}).items() if value is not None}
    fields: dict[str, Any] = {name: given[name] for name in FACTORS if name in given}
    if given.get("bypass_duplicate"):
        fields["bypass_duplicate"] = True
    keys = custom_keys_of(given.get("custom_keys") or {}, part, where)
    if "bias_decay_mult" in given and "norm_decay_mult" not in given:
        keys = _with_norm_biases(keys, given["bias_decay_mult"], model, part, where)
    if keys:
        fields["custom_keys"] = keys
    if unread := sorted(given.keys() - {*FACTORS, "bypass_duplicate", "custom_keys", FORCED, "_scope_"}):
        part.notes.append(f"{where}: {', '.join(unread)} are not read there, and left out.")
    if given.get(FORCED):
        part.leave(
            f"{where}.{FORCED}",
            True,
            "the rules of kinds count beside custom keys there. Give the keys what is "
            "missing, such as optim_wrapper.paramwise_cfg.custom_keys.backbone.decay_mult=0",
        )
    if fields:
        part.keys["paramwise_cfg"] = {**fields, "strict": False}
    return part


def custom_keys_of(keys: Any, part: Part, where: str) -> dict[str, Any]:
    """Return custom keys as they are; options that only the optimizer can know are said once."""
    if not isinstance(keys, Mapping):
        part.leave(
            f"{where}.custom_keys", keys, "it holds no options: custom_keys={part.of.a.name: {lr_mult: 0.1}}"
        )
        return {}
    tags = sorted({name for options in keys.values() for name in options} - {"lr_mult", "decay_mult"})
    if tags:
        part.notes.append(
            f"{where}.custom_keys: {', '.join(tags)} go into the param groups as they are; what reads them there "
            "is the optimizer's business, or that of a hook of your own."
        )
    return {key: dict(options) for key, options in keys.items()}


def _with_norm_biases(keys: dict[str, Any], factor: float, model: Any, part: Part, where: str) -> dict[str, Any]:
    """Add keys for the biases of norm layers, which have the factor of biases there where norms have none."""
    names = [name for kind in norm_types(model) for name in _NORMS.get(kind, ())] or [
        name for known in _NORMS.values() for name in known
    ]
    added = {f"{name}.bias": {"decay_mult": factor} for name in dict.fromkeys(["gn", *names])}
    part.notes.append(
        f"{where}.bias_decay_mult={factor} without norm_decay_mult: there the biases of norm layers have it too, "
        f"here not. The keys {', '.join(added)} give it to them; norm layers of other names need theirs."
    )
    return added | keys


def norm_types(model: Any) -> list[str]:
    """Return the types of norm layers that a model's config names, less frozen ones: `BN` for SyncBN too.

    >>> norm_types({"backbone": {"norm_cfg": {"type": "SyncBN"}}, "neck": [{"norm_cfg": {"type": "GN"}}]})
    ['BN', 'GN']
    """
    found = [
        str(cfg.get("type")).removeprefix("Sync").rstrip("123d")
        for cfg in _norm_configs(model)
        if cfg.get("requires_grad", True)
    ]
    return list(dict.fromkeys(found))


def _norm_configs(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        if isinstance(node.get("norm_cfg"), Mapping):
            yield node["norm_cfg"]
        for value in node.values():
            yield from _norm_configs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _norm_configs(value)
