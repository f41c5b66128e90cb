"""MMEngine's own constructor as the oracle: the lr and weight decay of every parameter, under every rule.

Needs the package mmengine, whatever it needs itself included; without it, these tests are skipped.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from optwrap.from_mmengine.wrapper import optim_wrapper_of
from optwrap.optim import build_optim_wrapper

FACTS = json.loads(Path(__file__).with_name("wrappers.json").read_text())
OWN = ("LearningRateDecay", "LayerDecay", "ForceDefault")  # constructors of other packages


def single_wrappers() -> list[dict[str, Any]]:
    """Return the distinct optimizers with rules, each with what is known of the model."""
    found: dict[str, dict[str, Any]] = {}
    for fact in FACTS:
        cfg = fact["optim_wrapper"]
        for each in [cfg] if "optimizer" in cfg else [v for v in cfg.values() if isinstance(v, dict)]:
            if each.get("paramwise_cfg") and not str(each.get("constructor")).startswith(OWN):
                what = {"optimizer": each["optimizer"], "paramwise_cfg": each["paramwise_cfg"]}
                found.setdefault(json.dumps(what), {**what, "model": fact.get("model")})
    return list(found.values())


def layers_of(model: Any) -> nn.ModuleDict:
    """Return one layer of each kind that rules tell apart, with the names that MMEngine's models give them.

    Norm layers are those that the model's config names, and are frozen where it says so; all where it names none.
    """
    layers = {"fc": nn.Linear(2, 2), "conv": nn.Conv2d(2, 4, 1), "dw": nn.Conv2d(2, 2, 1, groups=2)}
    norms = {"gn": nn.GroupNorm(1, 2), "bn1": nn.BatchNorm2d(2), "ln": nn.LayerNorm(2)}
    named = [each["norm_cfg"] for each in (model or {}).get("neck", ())]
    if named and not any(each.get("requires_grad", True) for each in named if each["type"] == "BN"):
        norms["bn1"].requires_grad_(False)
    if named:
        del norms["ln"]
    return nn.ModuleDict({**layers, **norms, "embed": nn.Embedding(2, 2)})


def model_of(paramwise_cfg: dict[str, Any], model: Any) -> nn.Module:
    """Return a model whose modules have the names that custom keys ask for, and others."""
    root = nn.Module()
    root.add_module("stem", layers_of(model))
    root.stem.register_parameter("scale", nn.Parameter(torch.ones(2)))
    for key in paramwise_cfg.get("custom_keys", {}):
        *path, last = ["backbone", *(part for part in key.split(".") if part)]
        holder = root
        for name in path:
            if name not in dict(holder.named_children()):
                holder.add_module(name, nn.Module())
            holder = getattr(holder, name)
        if not hasattr(holder, last):
            holder.add_module(last, layers_of(model))
        elif not hasattr(getattr(holder, last), "more"):
            getattr(holder, last).add_module("more", layers_of(model))
    return root


def of_mmengine(model: nn.Module, cfg: dict[str, Any]) -> dict[str, tuple[float, float]]:
    mmengine = pytest.importorskip("mmengine.optim")
    optimizer = {"type": "SGD", "lr": cfg["optimizer"]["lr"]}
    if "weight_decay" in cfg["optimizer"]:
        optimizer["weight_decay"] = cfg["optimizer"]["weight_decay"]
    wrapper = mmengine.DefaultOptimWrapperConstructor(
        {"type": "OptimWrapper", "optimizer": optimizer}, copy.deepcopy(cfg["paramwise_cfg"])
    )(model)
    return hyperparameters(model, wrapper.optimizer)


def of_optwrap(model: nn.Module, cfg: dict[str, Any]) -> dict[str, tuple[float, float]]:
    keys = optim_wrapper_of(cfg, cfg["model"]).keys
    target = {"_target_": f"torch.optim.{cfg['optimizer']['type']}"}
    built = build_optim_wrapper(model, {**keys, "optimizer": {**target, **keys["optimizer"]}})
    return hyperparameters(model, built.optimizer)


def hyperparameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    names = {id(param): name for name, param in model.named_parameters()}
    return {
        names[id(param)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for param in group["params"]
    }


@pytest.mark.slow
def test_every_parameter_has_the_lr_and_weight_decay_that_it_has_there() -> None:
    pytest.importorskip("mmengine.optim")
    wrappers = single_wrappers()
    for cfg in wrappers:
        model = model_of(cfg["paramwise_cfg"], cfg["model"])
        expected, found = of_mmengine(model, cfg), of_optwrap(model, cfg)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name] == pytest.approx(values), (name, cfg)
    assert len(wrappers) > 100
