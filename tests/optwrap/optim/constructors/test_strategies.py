import pytest
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import build_optim_wrapper, build_schedule, table


def build(kind="SGD", auto_scale=None, model=None, **cfg):
    optimizer = {"_target_": f"torch.optim.{kind}", "lr": 0.1}
    cfg = {"optimizer": optimizer, "auto_scale_lr": auto_scale, **cfg}
    return build_optim_wrapper(model or nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), cfg)


@pytest.mark.parametrize(
    ("kind", "rule", "counts", "lr"),
    [
        ("SGD", None, 1, 0.2),
        ("SGD", None, 4, 0.8),
        ("SGD", "sqrt", 2, 0.2),
        ("AdamW", None, 2, 0.2),
        ("AdamW", "linear", 2, 0.4),
        ("RMSprop", None, 2, 0.2),
    ],
)
def test_the_lr_follows_the_samples_of_an_update(kind, rule, counts, lr):
    auto_scale = {"base_batch_size": 32, "batch_size": 64, "rule": rule}
    optim_wrapper = build(kind, auto_scale, accumulative_counts=counts)
    assert optim_wrapper.get_lr()["lr"] == [pytest.approx(lr)]
    assert optim_wrapper.optimizer.defaults["lr"] == pytest.approx(lr)
    rule = table(optim_wrapper.assignments)[0]["rule"]
    assert rule.startswith(f"base, lr x {lr / 0.1:g}: {64 * counts} samples an update for 32, ")


def test_multipliers_and_schedules_go_by_the_scaled_lr():
    paramwise = {"custom_keys": {"0.": {"lr_mult": 0.1}}}
    optim_wrapper = build(auto_scale={"base_batch_size": 1, "batch_size": 2}, paramwise_cfg=paramwise)
    assert optim_wrapper.get_lr()["lr"] == pytest.approx([0.02, 0.2])
    warm = {"_target_": "torch.optim.lr_scheduler.LinearLR", "start_factor": 0.5, "total_iters": 9}
    build_schedule(optim_wrapper, {"lr": warm}, 10)
    assert optim_wrapper.get_lr()["lr"] == pytest.approx([0.01, 0.1])


def test_each_optimizer_of_a_hybrid_one_has_its_rule():
    model = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4), nn.Linear(4, 2))
    optim_wrapper = build(
        "SGD",
        {"base_batch_size": 16, "batch_size": 64},
        model,
        constructor={"_target_": "optwrap.optim.HybridOptimWrapperConstructor"},
        hidden_optimizer={"_target_": "torch.optim.Muon", "lr": 0.01},
        head=["3"],
    )
    rules = {row["name"]: (row["lr"], row["rule"]) for row in table(optim_wrapper.assignments)}
    assert rules["1.weight"] == (pytest.approx(0.02), "Muon: base, lr x 2: 64 samples an update for 16, sqrt")
    assert rules["3.weight"] == (pytest.approx(0.4), "SGD: base, lr x 4: 64 samples an update for 16, linear")


def test_where_nobody_says_the_base_the_lr_stays():
    assert build(auto_scale={"base_batch_size": None, "batch_size": 64, "rule": None}).get_lr()["lr"] == [0.1]


@pytest.mark.parametrize(
    ("auto_scale", "message"),
    [
        ({"base_batch_size": 0, "batch_size": 4}, "auto_scale_lr.base_batch_size=0: it is a number of samples"),
        ({"base_batch_size": 4}, "auto_scale_lr.batch_size=None: it is a number of samples"),
        ({"base_batch_size": 4, "batch_size": 4, "rule": "root"}, "auto_scale_lr.rule='root': it is linear, sqrt"),
        ({"base": 4}, "auto_scale_lr.base=4: there is no such field"),
    ],
)
def test_what_is_wrong_is_named(auto_scale, message):
    with pytest.raises(ConfigError, match=rf"^optim_wrapper\.{message}"):
        build(auto_scale=auto_scale)


def test_an_optimizer_with_a_schedule_of_its_own_has_no_lr_to_scale():
    optimizer = {"_target_": "torch.optim.SGD", "lr": None}
    with pytest.raises(
        ConfigError, match=r"optimizer.lr=None: optim_wrapper.auto_scale_lr has no number to scale"
    ):
        build(auto_scale={"base_batch_size": 4, "batch_size": 4}, optimizer=optimizer)


@pytest.mark.parametrize(
    "strategy",
    [
        {"averaging": {"kind": "ema"}},
        {"sam": {"rho": 0.1}},
        {"freeze": {"0.": 1}},
    ],
)
def test_several_wrappers_share_no_strategy(strategy):
    model = nn.ModuleDict({"gen": nn.Linear(1, 1), "disc": nn.Linear(1, 1)})
    one = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
    cfg = {"constructor": "optwrap.optim.MultiOptimWrapperConstructor", "gen": one, "disc": one, **strategy}
    name = next(iter(strategy))
    with pytest.raises(ConfigError, match=rf"optim_wrapper.{name}: .*such as optim_wrapper.gen.{name}"):
        build_optim_wrapper(model, cfg)


def test_a_wrapper_of_ones_own_need_not_know_of_them():
    optim_wrapper = build(averaging={"kind": "ema"}, _target_="tests.optwrap.optim.constructors.own.PlainWrapper")
    assert optim_wrapper.averaging.kind == "ema"
