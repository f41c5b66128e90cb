"""Every optimizer of torch, and five of other packages, resume to the bit and under a changed plan."""

import copy
import inspect
from pkgutil import resolve_name

import pytest
import torch
from torch import nn

from optwrap.optim import build_optim_wrapper, build_schedule, load_named_state_dict, named_state_dict

OTHERS = {
    "Prodigy": "prodigyopt.Prodigy",
    "ScheduleFreeAdamW": "schedulefree.AdamWScheduleFree",
    "Lion": "lion_pytorch.Lion",
    "Lamb": "timm.optim.Lamb",
    "NAdamW": "timm.optim.NAdamW",
}  # by path: importing timm takes a second
OPTIMIZERS = {
    name: f"torch.optim.{name}"
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and name != "Optimizer"
} | OTHERS
OPTIONS = {"Prodigy": {"lr": 1.0, "d0": 1e-3}, "Rprop": {"lr": 0.01}}
CHANGED = {"custom_keys": {"0": {"lr_mult": 0.5}}}
ONE_LR = {"Prodigy": {"custom_keys": {"0": {"eps": 1e-7}}}, "LBFGS": None}  # and of LBFGS one param group
STEPS = 8


def network(name, seed=0):
    """Return a model of parameters that the optimizer takes: matrices alone, sparse gradients alone, or any."""
    torch.manual_seed(seed)
    if name == "SparseAdam":
        bags = {name: nn.EmbeddingBag(6, width, sparse=True, mode="sum") for name, width in (("0", 4), ("2", 2))}
        return nn.ModuleDict(bags)
    bias = name != "Muon"
    return nn.Sequential(nn.Linear(3, 4, bias=bias), nn.Tanh(), nn.Linear(4, 2, bias=bias))


def loss_of(model, inputs, targets):
    if isinstance(model, nn.ModuleDict):
        rows = (inputs * 2).long().clamp(-3, 2) + 3
        return nn.functional.mse_loss(model["2"](rows), targets) + model["0"](rows).square().mean()
    return nn.functional.mse_loss(model(inputs), targets)


def build(name, paramwise=None, seed=0):
    model = network(name, seed)
    cfg = {"optimizer": {"_target_": OPTIMIZERS[name], **OPTIONS.get(name, {"lr": 0.01})}}
    optim_wrapper = build_optim_wrapper(model, cfg | ({"paramwise_cfg": paramwise} if paramwise else {}))
    if name == "ScheduleFreeAdamW":
        optim_wrapper.optimizer.train()
    schedule = {"lr": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR"}}
    return model, optim_wrapper, build_schedule(optim_wrapper, schedule, STEPS)


def batches():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(5, 3, generator=generator), torch.randn(5, 2, generator=generator)) for _ in range(STEPS)]


def train(model, optim_wrapper, schedule, these):
    for batch in these:
        loss = loss_of(model, *batch)
        optim_wrapper.update_params(loss, step_kwargs=closure(optim_wrapper.optimizer, model, batch))
        schedule.step()


def closure(optimizer, model, batch):
    """Return what an optimizer that evaluates the loss by itself needs for a step."""

    def evaluate():
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        return loss

    return {"closure": evaluate} if isinstance(optimizer, torch.optim.LBFGS) else {}


def by_hand(name):
    """Return the model after the plain loop."""
    model = network(name)
    options = OPTIONS.get(name, {"lr": 0.01})
    optimizer = resolve_name(OPTIMIZERS[name])(model.parameters(), **options)
    if name == "ScheduleFreeAdamW":
        optimizer.train()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for batch in batches():
        loss_of(model, *batch).backward()
        optimizer.step(**closure(optimizer, model, batch))
        optimizer.zero_grad()
        scheduler.step()
    return model


def go_on(name, model, first, schedule, paramwise=None):
    """Return a run that goes on where `first` stands, as a checkpoint would have it."""
    again, second, resumed = build(name, paramwise, seed=9)
    again.load_state_dict(copy.deepcopy(model.state_dict()))
    load_named_state_dict(second, copy.deepcopy(named_state_dict(first)))
    second.updates = first.updates
    resumed.load_state_dict(copy.deepcopy(schedule.state_dict()))
    return again, second, resumed


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_trains_as_the_plain_loop_and_resumes_to_the_bit(name, assert_equal):
    whole = build(name)
    train(*whole, batches())
    for each, expected in zip(whole[0].parameters(), by_hand(name).parameters(), strict=True):
        torch.testing.assert_close(each, expected)

    first = build(name)
    train(*first, batches()[:3])
    rest = go_on(name, *first)
    train(*rest, batches()[3:])
    assert_equal(rest[0], whole[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_changed_plan_keeps_all_state(name):
    first = build(name)
    train(*first, batches()[:3])
    model, optim_wrapper, schedule = go_on(name, *first, paramwise=ONE_LR.get(name, CHANGED))
    before, after = named_state_dict(first[1]), named_state_dict(optim_wrapper)
    torch.testing.assert_close(after["state"], before["state"], rtol=0, atol=0)
    arguments = inspect.signature(resolve_name(OPTIMIZERS[name])).parameters
    for param, options in before["options"].items():
        for key in set(options) - set(arguments) - {"initial_lr"}:
            assert after["options"][param][key] == options[key], (param, key)
    lrs = {param: options["lr"] for param, options in before["options"].items()}
    half = 1.0 if name in ONE_LR else 0.5
    assert {param: options["lr"] for param, options in after["options"].items()} == pytest.approx(
        {param: lr * (half if param.startswith("0.") else 1.0) for param, lr in lrs.items()}
    )
    train(model, optim_wrapper, schedule, batches()[3:])
    assert all(torch.isfinite(param).all() for param in model.parameters())


def test_what_prodigy_has_found_survives_other_param_groups_and_reaches_new_parameters():
    model, first, schedule = build("Prodigy")
    train(model, first, schedule, batches() * 3)
    found = first.param_groups[0]["d"]
    assert found > 1.5e-3
    again = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Linear(2, 2))
    cfg = {
        "optimizer": {"_target_": OTHERS["Prodigy"], "lr": 1.0, "d0": 1e-3},
        "paramwise_cfg": {"custom_keys": {"3": {"eps": 1e-6}, "0": {"eps": 1e-7}}},
    }
    second = build_optim_wrapper(again, cfg)
    load_named_state_dict(second, named_state_dict(first))
    assert len(second.param_groups) == 3
    assert [group["d"] for group in second.param_groups] == [found] * 3
