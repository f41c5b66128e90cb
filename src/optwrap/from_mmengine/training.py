"""What stands beside the wrapper: the length of the run, its evaluations, batch size, scaled lr and averages."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optwrap.from_mmengine.part import Part, last_name

_LOOPS = ("EpochBasedTrainLoop", "IterBasedTrainLoop", "")
_AVERAGES = {"ExponentialMovingAverage": "ema", "StochasticWeightAverage": "swa"}


@dataclass(frozen=True)
class Length:
    """How long a run is: `count` epochs, or updates of `accumulative_counts` iterations each; 0: not said."""

    by_epoch: bool
    count: int
    accumulative_counts: int = 1

    def updates(self, iterations: float) -> int:
        """Return how many updates so many iterations are."""
        return math.ceil(iterations / self.accumulative_counts)


def length_of(train_cfg: Mapping[str, Any], accumulative_counts: int) -> Length:
    """Return the length that `train_cfg` gives."""
    by_epoch = bool(train_cfg.get("by_epoch", "max_iters" not in train_cfg))
    count = train_cfg.get("max_epochs" if by_epoch else "max_iters") or 0
    length = Length(by_epoch, int(count), accumulative_counts)
    return length if by_epoch else Length(False, length.updates(length.count), accumulative_counts)


def train_cfg_of(train_cfg: Mapping[str, Any], length: Length) -> Part:
    """Return `epochs` or `max_updates`, and `eval_every`."""
    part = Part()
    if length.count:
        part.keys["epochs" if length.by_epoch else "max_updates"] = length.count
    elif train_cfg:
        part.leave("train_cfg", train_cfg, "no length is given: epochs=100, or max_updates=40000")
    interval = train_cfg.get("val_interval", 1)
    if not length.by_epoch:
        part.keys["eval_every"] = length.updates(interval if "val_interval" in train_cfg else 1000)
    elif interval != 1:
        part.keys["eval_epochs"] = interval
    if last_name(train_cfg.get("type", "")) not in _LOOPS:
        part.leave(
            "train_cfg.type", train_cfg["type"], "the loop stands in train.py, and a task says what a step does"
        )
    if train_cfg.get("val_begin", 1) not in (0, 1):
        part.leave(
            "train_cfg.val_begin", train_cfg["val_begin"], "evaluations begin with the run; eval_every=1000"
        )
    if "dynamic_intervals" in train_cfg:
        part.leave(
            "train_cfg.dynamic_intervals",
            train_cfg["dynamic_intervals"],
            "one interval counts for the whole run; resume=RUN_DIR eval_every=1000 changes it from there on",
        )
    known = ("by_epoch", "max_epochs", "max_iters", "val_interval", "type", "val_begin", "dynamic_intervals")
    part.leave_rest("train_cfg", dict(train_cfg), known)
    return part


def batch_of(config: Mapping[str, Any]) -> Part:
    """Return `batch_size`, which counts the samples of all processes here and of one there."""
    part = Part()
    loader = config.get("train_dataloader")
    size = loader.get("batch_size") if isinstance(loader, Mapping) else None
    if isinstance(size, int):
        part.keys["batch_size"] = size
        part.notes.append(
            f"train_dataloader.batch_size={size}: of one process there, of all together here: times their number, "
            f"batch_size={8 * size} for 8."
        )
    return part


def auto_scale_lr_of(cfg: Mapping[str, Any], accumulative_counts: int) -> dict[str, Any]:
    """Return the wrapper's `auto_scale_lr`; there it counts samples of an iteration, here those of an update."""
    if not cfg.get("enable") or not cfg.get("base_batch_size"):
        return {}
    return {"auto_scale_lr": {"base_batch_size": cfg["base_batch_size"] * accumulative_counts, "rule": "linear"}}


def left_of_scaling(cfg: Mapping[str, Any], accumulative_counts: int) -> Part:
    """Say what of `auto_scale_lr` is off, or is not known."""
    part = Part()
    if cfg.get("base_batch_size") and not cfg.get("enable"):
        base = cfg["base_batch_size"] * accumulative_counts
        part.notes.append(
            f"auto_scale_lr.base_batch_size={cfg['base_batch_size']}: off there unless asked for. "
            f"optim_wrapper.auto_scale_lr={{base_batch_size: {base}, rule: linear}} turns it on."
        )
    part.leave_rest("auto_scale_lr", dict(cfg), ("enable", "base_batch_size"))
    return part


def averaging_of(hooks: Any, length: Length) -> Part:
    """Return `averaging` for an EMA hook among the hooks; others that average are left."""
    part = Part()
    for hook in hooks if isinstance(hooks, list) else []:
        if not isinstance(hook, Mapping):
            continue
        name = last_name(hook.get("type", ""))
        if name == "EMAHook" and not part.keys:
            _average(dict(hook), part, length)
        elif "EMA" in name or "MovingAverage" in name:
            part.leave(
                "custom_hooks",
                dict(hook),
                "an average of a part of the model: 'optim_wrapper/generator=[Adam,ema]' "
                "averages one of several wrappers",
            )
    return part


def _average(hook: dict[str, Any], part: Part, length: Length) -> None:
    where = "custom_hooks.EMAHook"
    name = last_name(hook.get("ema_type", "ExponentialMovingAverage"))
    momentum = float(hook.get("momentum", 0.0002))
    kind = _AVERAGES.get(name, "ema")
    part.options.append(kind)
    keys: dict[str, Any] = {"every": hook["interval"]} if hook.get("interval", 1) != 1 else {}
    if kind == "ema":
        keys |= {"decay": 1 - momentum, "warmup": 0.0}
    keys["batch_norm"] = "average" if hook.get("update_buffers") and kind == "ema" else "copy"
    if name in ("ExpMomentumEMA", "MomentumAnnealingEMA"):
        gamma = hook.get("gamma", 2000 if name == "ExpMomentumEMA" else 100)
        keys["warmup"] = gamma + 1.0 if name == "MomentumAnnealingEMA" else 10.0
        part.leave(
            f"{where}.ema_type",
            name,
            f"begins with another warm-up (gamma={gamma}) than "
            f"optim_wrapper.averaging.warmup={keys['warmup']:g}, and comes to the same decay",
        )
    elif name not in _AVERAGES:
        part.leave(
            f"{where}.ema_type", name, "taken for an exponential average with optim_wrapper.averaging.decay"
        )
    if iterations := hook.get("begin_iter"):
        keys["begin"] = float(length.updates(iterations))
    if (epoch := hook.get("begin_epoch")) and length.by_epoch and length.count:
        keys["begin"] = max(0, epoch - 1) / length.count
    if length.accumulative_counts > 1:
        part.notes.append(f"{where}: averages are taken after updates here, after every iteration there.")
    part.keys["averaging"] = keys
    known = ("type", "ema_type", "momentum", "interval", "update_buffers", "gamma", "begin_iter", "begin_epoch")
    part.leave_rest(where, hook, (*known, "priority", "strict_load"))
