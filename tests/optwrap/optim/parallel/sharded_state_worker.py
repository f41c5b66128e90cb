"""One process of the tests of what is built and saved on sharded models; see test_sharded_state.py."""

from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adafactor, AdamW, Muon

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper, build_optim_wrapper, load_named_state_dict, named_state_dict, table
from optwrap.optim.parallel.sharded_state import full
from tests.optwrap.optim.parallel import harness as parallel
from tests.optwrap.optim.parallel.harness import batches, difference, joined, net, train, train_by_hand

KINDS = (
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "ASGD",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
    "Muon",
)


def config(kind: str) -> dict[str, Any]:
    optimizer: dict[str, Any] = {"_target_": f"torch.optim.{kind}", "lr": 0.01}
    if kind == "SGD":
        optimizer["momentum"] = 0.9
    if kind != "Muon":
        return {"optimizer": optimizer, "clip_grad": {"max_norm": 0.3}}
    return {
        "constructor": "optwrap.optim.HybridOptimWrapperConstructor",
        "hidden_optimizer": optimizer | {"lr": 0.02},
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01},
        "clip_grad": {"max_norm": 0.3},
    }


def hybrid(rank: int, spread: str) -> dict[str, Any]:
    """Train by Muon and AdamW on this process's data, and by hand on everyone's."""
    model, alone = getattr(parallel, spread)(net()), net()
    wrapper = build_optim_wrapper(model, config("Muon"))
    train(model, wrapper, batches(rank))
    matrices = [param for name, param in alone.named_parameters() if param.ndim == 2 and "head" not in name]
    others = [param for param in alone.parameters() if all(param is not each for each in matrices)]
    optimizers = (Muon(matrices, lr=0.02), AdamW(others, lr=0.01))
    for batch in joined():
        parallel.loss_of(alone, batch).backward()
        clip_grad_norm_(alone.parameters(), 0.3)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    muon = wrapper.optimizer.optimizers["hidden"]
    momenta = [(param, state["momentum_buffer"]) for param, state in muon.state.items()]
    return {
        "difference": difference(model, alone),
        "momenta": len(momenta),
        "as params": all(getattr(m, "placements", 0) == getattr(p, "placements", 0) for p, m in momenta),
    }


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 5, 15) / 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bi,eoi->bo", x, self.weight)


class Cut(nn.Module):
    """A model whose hidden matrices are parts of parameters: a convolution, a fused projection, experts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden = nn.Linear(4, 28), nn.Conv1d(4, 6, 3)
        self.qkv, self.experts, self.head = nn.Linear(30, 15), Experts(), nn.Linear(5, 1)

    def forward(self, x: torch.Tensor, with_spare: bool = False) -> torch.Tensor:
        x = self.hidden(self.stem(x).view(-1, 4, 7)).tanh().flatten(1)
        return self.head(self.experts(self.qkv(x).tanh()))


def cut() -> Cut:
    torch.manual_seed(0)
    return Cut()


def on_matrices(rank: int, spread: str) -> dict[str, Any]:
    """Train parts of parameters by Muon, go on from the saved state, and do the same on one process."""
    cfg = {**config("Muon"), "split_fused": ["qkv"]}
    alone = cut()
    train(alone, build_optim_wrapper(alone, cfg), joined())
    model = getattr(parallel, spread)(cut())
    wrapper = build_optim_wrapper(model, cfg)
    train(model, wrapper, batches(rank)[:2])
    state = full(named_state_dict(wrapper))
    wrapper = build_optim_wrapper(model, cfg)
    unmatched = load_named_state_dict(wrapper, state)
    train(model, wrapper, batches(rank)[2:])
    muon = wrapper.optimizer.optimizers["hidden"]
    momenta = [(param, each["momentum_buffer"]) for param, each in muon.state.items()]
    return {
        "difference": difference(model, alone),
        "unmatched": bool(unmatched),
        "as params": all(
            m.shape == p.shape and getattr(m, "placements", 0) == getattr(p, "placements", 0) for p, m in momenta
        ),
    }


def refused_matrices() -> str:
    cfg = {**config("Muon"), "hidden_optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
    try:
        build_optim_wrapper(parallel.sharded(cut()), cfg)
    except ConfigError as error:
        return str(error)
    return ""


def carried_on(rank: int, kind: str, to: str) -> float:
    """Save sharded, load elsewhere and back again; return the difference from training without a break."""
    alone = net()
    wrapper = build_optim_wrapper(alone, config(kind))
    train(alone, wrapper, joined())

    model = parallel.sharded(net())
    wrapper = build_optim_wrapper(model, config(kind))
    train(model, wrapper, batches(rank)[:1])
    spread = {"one process": lambda model: model, "DDP": parallel.replicated}[to]
    data = joined() if to == "one process" else batches(rank)
    for spread_next, part in ((spread, data[1:2]), (parallel.sharded, batches(rank)[2:])):
        weights, state = full(plain_names(model)), full(named_state_dict(wrapper))
        model = spread_next(net())
        wrapper = build_optim_wrapper(model, config(kind))
        set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True))
        unmatched = load_named_state_dict(wrapper, state)
        assert not unmatched, unmatched
        train(model, wrapper, part)
    return difference(model, alone)


def plain_names(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name.removeprefix("module."): value for name, value in model.state_dict().items()}


def own_state_dict(rank: int) -> float:
    """Go on from torch's own state dict, sharded as it is."""
    alone, model = net(), parallel.sharded(net())
    train_by_hand(alone, SGD(alone.parameters(), lr=0.1, momentum=0.9), joined())
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1, momentum=0.9))
    train(model, wrapper, batches(rank)[:2])
    state = wrapper.state_dict()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1, momentum=0.9))
    wrapper.load_state_dict(state)
    train(model, wrapper, batches(rank)[2:])
    return difference(model, alone)


def whole(rank: int) -> dict[str, Any]:
    model = parallel.sharded(net())
    plain = dict(net().named_parameters())
    nested = {"list": [model.hidden.weight, 3], "tuple": ({"bias": model.hidden.bias},), "plain": torch.ones(2)}
    kept = full(nested)
    dropped = full(nested, keep=rank == 0)
    return {
        "equal": torch.equal(kept["list"][0], plain["hidden.weight"])
        and torch.equal(kept["tuple"][0]["bias"], plain["hidden.bias"]),
        "types": sorted({type(value).__name__ for value in (kept["list"][0], kept["plain"])}),
        "rest": kept["list"][1],
        "dropped": dropped["list"][0] is None and dropped["tuple"][0]["bias"] is None,
        "shards": isinstance(nested["list"][0], DTensor),
    }


def refused(rank: int) -> list[str]:
    """What is said of an optimizer that cannot step shards, and of one that was built before they were there."""
    said = []
    for optimizer, shards_first in ((Adafactor, True), (SGD, False)):
        model = net()
        try:
            if shards_first:
                OptimWrapper(optimizer(parallel.sharded(model).parameters()))
            else:
                wrapper = OptimWrapper(optimizer(model.parameters()))
                train(parallel.sharded(model), wrapper, batches(rank))
        except ConfigError as error:
            said.append(str(error))
    return said


class Blocks(nn.Module):
    """A model with a stem, blocks and a head, of which each is sharded by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        blocks = [nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 4)) for _ in range(3)]
        self.layers = nn.Sequential(*blocks)
        self.head = nn.Linear(4, 5)


def tables(rank: int) -> list[bool]:
    """Whether every assignment of a sharded model is that of the plain one."""
    same = []
    paramwise = {"norm_decay_mult": 0.0, "bias_lr_mult": 2.0, "custom_keys": {"head": {"lr_mult": 10.0}}}
    layer_decay = {"decay_factor": 0.5, "decay_by": "block", "no_decay_1d": True}
    for constructor, rules in (("Default", paramwise), ("LayerDecay", layer_decay)):
        cfg = {
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.1},
            "constructor": f"optwrap.optim.{constructor}OptimWrapperConstructor",
            "paramwise_cfg": rules,
        }
        plain, model = Blocks(), Blocks()
        for block in model.layers:
            fully_shard(block, mesh=parallel.mesh())
        fully_shard(model, mesh=parallel.mesh())
        expected = build_optim_wrapper(plain, cfg)
        found = build_optim_wrapper(model, cfg)
        same.append(table(found.assignments) == table(expected.assignments))
        names = [[group["param_names"] for group in each.param_groups] for each in (found, expected)]
        same.append(names[0] == names[1])
    return same


def checks(rank: int) -> dict[str, Any]:
    result: dict[str, Any] = {f"hybrid-{spread}": hybrid(rank, spread) for spread in ("replicated", "sharded")}
    result |= {f"carried on-{kind}": carried_on(rank, kind, "one process") for kind in KINDS}
    result |= {f"carried on-{kind}-DDP": carried_on(rank, kind, "DDP") for kind in ("AdamW", "Muon")}
    result |= {f"cut-{spread}": on_matrices(rank, spread) for spread in ("replicated", "sharded")}
    result["refused matrices"] = refused_matrices()
    result["own state dict"] = own_state_dict(rank)
    result["whole"] = whole(rank)
    result["refused"] = refused(rank)
    result["tables"] = tables(rank)
    return result


if __name__ == "__main__":
    parallel.work(checks)
