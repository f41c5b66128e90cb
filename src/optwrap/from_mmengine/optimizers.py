"""The optimizer of a wrapper: torch's by its name, others by the package that has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from optwrap.config.signatures import Signature, optimizer_signatures
from optwrap.from_mmengine.part import Part, last_name


@dataclass(frozen=True)
class _Other:
    """An optimizer that torch lacks: where it is, the arguments that are called otherwise, and what differs."""

    target: str
    renamed: dict[str, str] = field(default_factory=dict)
    differs: str = ""


_OTHERS = {
    "LARS": _Other("timm.optim.Lars", {"eta": "trust_coeff"}, "it adapts only where there is weight decay"),
    "Lars": _Other("timm.optim.Lars", {"eta": "trust_coeff"}, "it adapts only where there is weight decay"),
    "Lamb": _Other("timm.optim.Lamb"),
    "LAMB": _Other("timm.optim.Lamb"),
    "Lion": _Other("lion_pytorch.Lion"),
    "Adan": _Other("timm.optim.Adan"),
    "Prodigy": _Other("prodigyopt.Prodigy"),
    "Sophia": _Other("pytorch_optimizer.SophiaH"),
    "DAdaptAdaGrad": _Other("dadaptation.DAdaptAdaGrad"),
    "DAdaptAdam": _Other("dadaptation.DAdaptAdam"),
    "DAdaptSGD": _Other("dadaptation.DAdaptSGD"),
    "AdamW8bit": _Other("bitsandbytes.optim.AdamW8bit"),
    "Adam8bit": _Other("bitsandbytes.optim.Adam8bit"),
    "Lion8bit": _Other("bitsandbytes.optim.Lion8bit"),
    "PagedAdamW8bit": _Other("bitsandbytes.optim.PagedAdamW8bit"),
}
_FLOATS = ("lr", "momentum", "weight_decay", "eps", "alpha", "dampening", "rho", "lr_decay", "trust_coeff")


def optimizer_of(cfg: Mapping[str, Any], where: str) -> Part:
    """Return the option that has an optimizer, or none and its `_target_`, with the arguments that are given.

    Args:
        cfg: `type` and arguments.
        where: the key of the config, for what is left.
    """
    part = Part()
    given = dict(cfg)
    target = str(given.pop("type", ""))
    given.pop("_scope_", None)
    name = last_name(target)
    torchs = _of_torch()
    if target.startswith("torch.optim.") or (name in torchs and target == name):
        part.options.append(name)
        known = {argument.name for argument in torchs[name].arguments} if name in torchs else set(given)
        part.leave_rest(where, given, known)
        arguments = {key: value for key, value in given.items() if key in known}
    elif name in _OTHERS:
        other = _OTHERS[name]
        arguments = {"_target_": other.target, **{other.renamed.get(key, key): v for key, v in given.items()}}
        if name == "Adan" and arguments.pop("max_grad_norm", 0.0) != 0.0:
            part.leave(f"{where}.max_grad_norm", given["max_grad_norm"], "optim_wrapper.clip_grad.max_norm clips")
        if other.differs:
            part.notes.append(f"{where}.type={target}: {other.target} stands for it, and {other.differs}.")
    else:
        arguments = {"_target_": target, **given}
        if "." not in target:
            part.leave(
                f"{where}.type",
                target,
                f"where it is imported from: optim_wrapper.optimizer._target_=package.{target}",
            )
    part.keys["optimizer"] = {key: _as_float(key, value) for key, value in arguments.items()}
    return part


@cache
def _of_torch() -> Mapping[str, Signature]:
    return optimizer_signatures()


def _as_float(key: str, value: Any) -> Any:
    """Return numbers that are real as such: a schema takes no list of `[0, 0.99]`."""
    if key == "betas" and isinstance(value, list):
        return [_as_float("lr", each) for each in value]
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if key in _FLOATS and is_whole else value
