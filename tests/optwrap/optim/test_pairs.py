"""Every new mixin with every other one: in either order the same config, which trains as a loop by hand does."""

import contextlib
import copy
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from optwrap.config import help as help_page
from optwrap.config import resuming, store
from optwrap.config.command_line import CommandLine
from optwrap.config.messages.explain import explain
from optwrap.hydra_versions import VERSION_BASE
from optwrap.optim import build_optim_wrapper, in_passes
from tests.optwrap.cases import one_in

CONF = Path(__file__).parents[3] / "conf"
NEW = ("ema", "swa", "sam", "asam", "schedule_free", "schedule_free_sgd", "auto_scale_lr", "freeze")
OLD = (
    "sgd",
    "adam",
    "adamw",
    "amp",
    "amp_bf16",
    "accum2",
    "accum4",
    "clip",
    "clip_value",
    "no_norm_decay",
    "no_decay_1d",
)
CONSTRUCTORS = ("layer_decay", "hybrid_muon")
OPTIMIZERS = {"sgd", "adam", "adamw", "schedule_free", "schedule_free_sgd"}
REFUSED = {  # and why
    **{frozenset(pair): "two optimizers" for pair in combinations([*sorted(OPTIMIZERS), "hybrid_muon"], 2)},
    frozenset(("ema", "swa")): "two averages",
    frozenset(("sam", "asam")): "SAM twice",
}
PAIRS = [
    (new, other)
    for i, new in enumerate(NEW)
    for other in (*OLD, *CONSTRUCTORS, *NEW[i + 1 :])
    if frozenset((new, other)) not in REFUSED
]


class Net(nn.Module):
    """Blocks, a norm, an embedding and a head: something for every mixin."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8, bias=False) for _ in range(2)])
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, rows):
        values = self.embedding(rows)
        for block in self.blocks:
            values = values + block(values).tanh()
        return self.head(self.norm(values))


@pytest.fixture(scope="module")
def composed():
    store.register()
    help_page.register_resolvers(CONF)
    resuming.register_resolver(lambda folder: folder)
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        yield config


def config(*mixins):
    names = [name for name in mixins if name != "freeze"]
    if not OPTIMIZERS.intersection(names) and "hybrid_muon" not in names:
        names.insert(0, "adamw")
    overrides = [f"optim_wrapper=[{','.join(names)}]", "optim_wrapper.optimizer.lr=0.02", "batch_size=32"]
    if "layer_decay" in mixins:
        overrides.append("optim_wrapper.paramwise_cfg.blocks=[blocks.0,blocks.1]")
    if "freeze" in mixins:
        overrides.append("+optim_wrapper.freeze={embedding: 1, blocks.0: null}")
    cfg = compose("config", overrides=overrides)
    OmegaConf.resolve(cfg.optim_wrapper)
    return OmegaConf.to_container(cfg.optim_wrapper)


def batches():
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randint(6, (7,), generator=generator), torch.randint(3, (7,), generator=generator))
        for _ in range(8)
    ]


def loss_of(model, batch):
    return F.cross_entropy(model(batch[0]).float(), batch[1])


def frozen_in(cfg, name, update):
    ends = {key: end for key, end in cfg["freeze"].items() if key in name}
    return any(end is None or update < end for end in ends.values())


def gradients(model, batch, cfg, autocast):
    """Differentiate at the weights, or at the worst ones nearby."""
    with autocast():
        loss = loss_of(model, batch)
    params = [param for param in model.parameters() if param.requires_grad]
    found = torch.autograd.grad(loss, params)
    sam = cfg["sam"]
    if sam["rho"] is None:
        return dict(zip(params, found, strict=True))
    sizes = [param.detach().abs() if sam["adaptive"] else torch.ones_like(param) for param in params]
    norm = torch.cat([(size * grad).flatten() for size, grad in zip(sizes, found, strict=True)]).norm()
    before = [param.detach().clone() for param in params]
    with torch.no_grad():
        for size, param, grad in zip(sizes, params, found, strict=True):
            param += sam["rho"] * size**2 * grad / norm
    with autocast():
        loss = loss_of(model, batch)
    found = torch.autograd.grad(loss, params)
    with torch.no_grad():
        for param, value in zip(params, before, strict=True):
            param.copy_(value)
    return dict(zip(params, found, strict=True))


def train_by_hand(model, optimizer, cfg):
    """Return the model as it is evaluated, after a loop that does what `cfg` says."""
    counts, averaging = cfg["accumulative_counts"], cfg["averaging"]
    autocast = contextlib.nullcontext
    if cfg["_target_"].endswith("AmpOptimWrapper"):
        autocast = partial(torch.autocast, "cpu", torch.bfloat16)
    average, first = None, int(averaging["begin"] * len(batches()) / counts)
    if averaging["kind"] == "swa":
        average = AveragedModel(model, multi_avg_fn=get_swa_multi_avg_fn())
    elif averaging["kind"] == "ema":
        average = AveragedModel(model, multi_avg_fn=ema(averaging))
    for update, start in enumerate(range(0, len(batches()), counts)):
        for name, param in model.named_parameters():
            param.requires_grad_(not frozen_in(cfg, name, update))
        optimizer.zero_grad()
        for batch in batches()[start : start + counts]:
            for param, grad in gradients(model, batch, cfg, autocast).items():
                param.grad = grad / counts if param.grad is None else param.grad + grad / counts
        if cfg["clip_grad"]["max_norm"]:
            clip_grad_norm_(model.parameters(), cfg["clip_grad"]["max_norm"])
        if cfg["clip_grad"]["clip_value"]:
            clip_grad_value_(model.parameters(), cfg["clip_grad"]["clip_value"])
        optimizer.step()
        if average is not None and update >= first:
            average.update_parameters(model)
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    return model if average is None else average.module


def ema(averaging):
    def average(averages, params, count):
        decay = min(averaging["decay"], (1 + count) / (averaging["warmup"] + count))
        get_ema_multi_avg_fn(decay)(averages, params, count)

    return average


def trained(cfg, model):
    optim_wrapper = build_optim_wrapper(model, cfg)
    optim_wrapper.initialize_count_status(model, 0, len(batches()))

    def step(batch):
        with optim_wrapper.optim_context(model):
            loss = loss_of(model, batch)
        optim_wrapper.update_params(loss)

    for batch in batches():
        in_passes(model, optim_wrapper, partial(step, batch))
    with optim_wrapper.evaluation_weights():
        return copy.deepcopy(model)


@pytest.mark.parametrize(("new", "other"), one_in(36, PAIRS, [f"{new}-{other}" for new, other in PAIRS]))
def test_a_pair_trains_as_by_hand_in_either_order(new, other, composed):
    cfg = composed(new, other)
    assert composed(other, new) == cfg
    torch.manual_seed(0)
    model = Net()
    twin = copy.deepcopy(model)
    found = trained(cfg, model)
    # Of a further wrapper the optimizer alone, with its lr for each parameter: its `step` is torch's.
    optimizer = build_optim_wrapper(twin, {**cfg, "freeze": {}}).optimizer
    for group in optimizer.param_groups:
        group["fused"] = False  # torch's SGD fails in a first step without every gradient
    by_hand = train_by_hand(twin, optimizer, cfg)
    tolerance = {"rtol": 2e-2, "atol": 2e-3} if cfg["_target_"].endswith("AmpOptimWrapper") else {}
    if other == "hybrid_muon":  # it computes in bfloat16
        tolerance = {"rtol": 5e-2, "atol": 5e-3}
    torch.testing.assert_close(
        found.state_dict(), by_hand.state_dict(), **tolerance or {"rtol": 1e-4, "atol": 1e-5}
    )


CLASHES = sorted(map(sorted, REFUSED))


@pytest.mark.parametrize("pair", one_in(8, CLASHES, list(map("-".join, CLASHES))))
def test_two_of_a_kind_are_refused_with_the_reason(pair, composed):
    with pytest.raises(ConfigCompositionException) as refusal:
        composed(*pair)
    typed = f"optim_wrapper=[{','.join(pair)}]"
    message = explain(refusal.value, CommandLine(CONF, "config", (typed,)))
    assert message.startswith(f"{typed}: the list has {REFUSED[frozenset(pair)]}: {pair[0]} (")
