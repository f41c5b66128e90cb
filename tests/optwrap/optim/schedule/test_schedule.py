import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, lr_scheduler

from optwrap.errors import ConfigError
from optwrap.optim import (
    AmpOptimWrapper,
    OptimWrapper,
    OptimWrapperDict,
    build_optim_wrapper,
    build_schedule,
)

TORCH = "torch.optim.lr_scheduler."
OURS = "optwrap.optim."


def setup(optimizer=SGD, counts=1, wrapper=OptimWrapper, groups=1, **kwargs):
    models = [nn.Linear(1, 1) for _ in range(groups)]
    options = {"lr": 0.1, "weight_decay": 0.01} | ({"momentum": 0.9} if optimizer is SGD else {})
    params = [{"params": list(m.parameters()), "lr": 0.1 * (i + 1)} for i, m in enumerate(models)]
    return models[0], wrapper(optimizer(params, **options), counts, **kwargs)


def run(model, optim_wrapper, schedule, micro_batches, option="lr", blow_up=()):
    """Train, and return the hyperparameter that each micro-batch was trained with."""
    seen = []
    for i in range(micro_batches):
        seen.append(optim_wrapper.param_groups[0][option])
        loss = model(torch.ones(1, 1)).sum() * (1e38 if i in blow_up else 1)
        optim_wrapper.update_params(loss)
        schedule.step()
    return seen


def lrs_by_hand(make, updates, **options):
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9)
    scheduler, seen = make(optimizer), []
    for _ in range(updates):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("cfg", "make"),
    [
        (
            {"_target_": TORCH + "CosineAnnealingLR", "T_max": "???"},
            lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
        ),
        ({"_target_": TORCH + "CosineAnnealingLR", "T_max": 5}, lambda o: lr_scheduler.CosineAnnealingLR(o, 5)),
        ({"_target_": TORCH + "OneCycleLR", "max_lr": 0.1}, lambda o: lr_scheduler.OneCycleLR(o, 0.1, 10)),
        ({"_target_": TORCH + "StepLR", "step_size": 3}, lambda o: lr_scheduler.StepLR(o, 3)),
        ({"_target_": OURS + "multi_step"}, lambda o: lr_scheduler.MultiStepLR(o, [5, 8])),
        ({"_target_": OURS + "multi_step", "milestones": [2, 0.9]}, lambda o: lr_scheduler.MultiStepLR(o, [2, 9])),
    ],
)
def test_schedules_equal_torchs_with_the_length_of_the_run_filled_in(cfg, make):
    model, optim_wrapper = setup()
    schedule = build_schedule(optim_wrapper, {"lr": cfg}, micro_batches=10)
    assert run(model, optim_wrapper, schedule, 10) == lrs_by_hand(make, 10)


def test_an_empty_schedule_is_constant():
    model, optim_wrapper = setup()
    assert run(model, optim_wrapper, build_schedule(optim_wrapper, {}, 5), 5) == [0.1] * 5


def test_it_counts_updates_and_not_micro_batches():
    model, optim_wrapper = setup(counts=3)
    schedule = build_schedule(optim_wrapper, {"lr": {"_target_": TORCH + "StepLR", "step_size": 1}}, 9)
    assert run(model, optim_wrapper, schedule, 9) == pytest.approx([0.1] * 3 + [0.01] * 3 + [0.001] * 3)


def test_a_skipped_step_does_not_advance_it():
    model, optim_wrapper = setup(wrapper=AmpOptimWrapper, dtype="float16", loss_scale=16)
    schedule = build_schedule(optim_wrapper, {"lr": {"_target_": TORCH + "StepLR", "step_size": 1}}, 5)
    seen = run(model, optim_wrapper, schedule, 5, blow_up={0, 2})  # 1e38 times 16 is inf
    assert optim_wrapper.skipped_steps == 2
    assert seen == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_warmup_rises_linearly_and_the_cosine_ends_at_the_floor():
    model, optim_wrapper = setup()
    cfg = {"_target_": OURS + "warmup_cosine", "warmup": 0.2, "min_factor": 0.1}
    schedule = build_schedule(optim_wrapper, {"lr": cfg}, micro_batches=20)
    seen = run(model, optim_wrapper, schedule, 20)
    assert seen[:4] == pytest.approx([0.02, 0.04, 0.06, 0.08])
    assert seen[4] == pytest.approx(0.1)
    assert seen[12] == pytest.approx(0.1 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2))))
    assert optim_wrapper.get_lr()["lr"] == [pytest.approx(0.01)]


def test_every_param_group_keeps_its_own_base():
    model, optim_wrapper = setup(groups=2)
    schedule = build_schedule(optim_wrapper, {"lr": {"_target_": TORCH + "StepLR", "step_size": 1}}, 2)
    run(model, optim_wrapper, schedule, 1)
    assert optim_wrapper.get_lr()["lr"] == pytest.approx([0.01, 0.02])


@pytest.mark.parametrize(("optimizer", "option"), [(SGD, "momentum"), (Adam, "betas")])
def test_one_cycle_moves_momentum_too(optimizer, option):
    model, optim_wrapper = setup(optimizer)
    cfg = {"_target_": TORCH + "OneCycleLR", "max_lr": 0.1}
    schedule = build_schedule(optim_wrapper, {"lr": cfg}, micro_batches=10)
    run(model, optim_wrapper, schedule, 3)
    assert optim_wrapper.get_momentum()["momentum"] == [pytest.approx(0.85, abs=0.01)]


def test_one_cycle_peaks_at_each_param_groups_own_lr():
    model, optim_wrapper = setup(groups=2)
    cfg = {"_target_": TORCH + "OneCycleLR", "max_lr": "???", "pct_start": 0.5}
    schedule = build_schedule(optim_wrapper, {"lr": cfg}, micro_batches=11)
    peaks = [0.0, 0.0]
    for _ in range(10):
        run(model, optim_wrapper, schedule, 1)
        peaks = [max(pair) for pair in zip(peaks, optim_wrapper.get_lr()["lr"], strict=True)]
    assert peaks == pytest.approx([0.1, 0.2], rel=0.05)


def test_any_hyperparameter_can_be_scheduled_beside_the_learning_rate():
    model, optim_wrapper = setup()
    cfg = {
        "lr": {"_target_": TORCH + "StepLR", "step_size": 2},
        "weight_decay": {"_target_": TORCH + "CosineAnnealingLR", "eta_min": 0.0},
    }
    schedule = build_schedule(optim_wrapper, cfg, micro_batches=4)
    decays = run(model, optim_wrapper, schedule, 4, "weight_decay")
    assert decays == pytest.approx([0.01 * 0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(4)])
    assert optim_wrapper.get_lr()["lr"] == [pytest.approx(0.001)]


def test_momentum_of_adam_is_its_first_beta():
    model, optim_wrapper = setup(Adam)
    cfg = {"momentum": {"_target_": TORCH + "ExponentialLR", "gamma": 0.5}}
    run(model, optim_wrapper, build_schedule(optim_wrapper, cfg, 2), 2)
    assert optim_wrapper.param_groups[0]["betas"] == (pytest.approx(0.225), 0.999)


def test_plateau_waits_for_a_metric():
    model, optim_wrapper = setup()
    cfg = {"lr": {"_target_": TORCH + "ReduceLROnPlateau", "mode": "max", "patience": 0, "factor": 0.5}}
    schedule = build_schedule(optim_wrapper, cfg, 5)
    run(model, optim_wrapper, schedule, 2)
    for metric in (0.9, 0.8):
        schedule.step_on_metric(metric)
    assert optim_wrapper.get_lr()["lr"] == [0.05]


SCHEDULERS = [
    {"_target_": OURS + "warmup_cosine"},
    {"_target_": OURS + "multi_step", "milestones": [0.2, 0.8]},
    {"_target_": TORCH + "StepLR", "step_size": 3},
    {"_target_": TORCH + "ExponentialLR", "gamma": 0.5},
    {"_target_": TORCH + "CosineAnnealingLR"},
    {"_target_": TORCH + "LinearLR", "total_iters": 8},
    {"_target_": TORCH + "PolynomialLR", "total_iters": 9},
    {"_target_": TORCH + "CosineAnnealingWarmRestarts", "T_0": 3},
    {"_target_": TORCH + "ConstantLR", "total_iters": 6},
    {
        "_target_": TORCH + "SequentialLR",
        "milestones": [3],
        "schedulers": [{"_target_": TORCH + "LinearLR"}, {"_target_": TORCH + "ExponentialLR", "gamma": 0.5}],
    },
    {
        "_target_": TORCH + "ChainedScheduler",
        "schedulers": [{"_target_": TORCH + "ConstantLR"}, {"_target_": TORCH + "ExponentialLR", "gamma": 0.9}],
    },
]


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda cfg: cfg["_target_"].rpartition(".")[2])
@pytest.mark.parametrize("schedule_first", [True, False])
def test_lr_and_weight_decay_resume_exactly(scheduler, schedule_first):
    cfg = {"lr": scheduler, "weight_decay": scheduler}

    def both(model, optim_wrapper, schedule, micro_batches):
        seen = run(model, optim_wrapper, schedule, micro_batches)
        return [*seen, optim_wrapper.param_groups[0]["weight_decay"], optim_wrapper.param_groups[0]["lr"]]

    model, whole = setup()
    schedule = build_schedule(whole, cfg, 10)
    expected = both(model, whole, schedule, 4)[:4] + both(model, whole, schedule, 6)

    model, first = setup()
    schedule = build_schedule(first, cfg, 10)
    seen = run(model, first, schedule, 4)
    second = setup()[1]
    if schedule_first:
        resumed = build_schedule(second, cfg, 10)
        second.load_state_dict(first.state_dict())
    else:
        second.load_state_dict(first.state_dict())
        resumed = build_schedule(second, cfg, 10)
    resumed.load_state_dict(schedule.state_dict())
    assert seen + both(model, second, resumed, 6) == expected


def test_a_resumed_schedule_keeps_its_proportion_under_another_base_value():
    cfg = {"lr": {"_target_": TORCH + "ExponentialLR", "gamma": 0.5}}
    model, first = setup()
    schedule = build_schedule(first, cfg, 10)
    run(model, first, schedule, 2)
    second = setup(groups=2)[1]
    resumed = build_schedule(second, cfg, 10)
    resumed.load_state_dict(schedule.state_dict())
    assert second.get_lr()["lr"] == pytest.approx([0.1 * 0.25, 0.2 * 0.25])


CYCLES = [
    {"_target_": TORCH + "CyclicLR", "base_lr": 0.01, "max_lr": 0.2, "step_size_up": 3},
    {"_target_": TORCH + "OneCycleLR"},
    {"_target_": TORCH + "OneCycleLR", "max_lr": 0.3, "epochs": 2, "steps_per_epoch": 5},
    {"_target_": TORCH + "SequentialLR", "milestones": [2], "schedulers": [
        {"_target_": TORCH + "LinearLR"},
        {"_target_": TORCH + "CyclicLR", "base_lr": 0.01, "max_lr": 0.2, "step_size_up": 3},
    ]},
]  # fmt: skip


@pytest.mark.parametrize("scheduler", CYCLES)
@pytest.mark.parametrize("groups", [1, 2])
def test_cycles_resume_exactly_also_with_more_param_groups(scheduler, groups):
    def train(model, optim_wrapper, schedule, micro_batches):
        return [
            (run(model, optim_wrapper, schedule, 1)[0], optim_wrapper.get_momentum()["momentum"][0])
            for _ in range(micro_batches)
        ]

    whole = setup()
    expected = train(*whole, build_schedule(whole[1], {"lr": scheduler}, 10), 8)
    model, first = setup()
    schedule = build_schedule(first, {"lr": scheduler}, 10)
    seen = train(model, first, schedule, 4)
    model, second = setup(groups=groups)
    resumed = build_schedule(second, {"lr": scheduler}, 10)
    resumed.load_state_dict(schedule.state_dict())
    assert seen + train(model, second, resumed, 4) == expected


def test_a_length_in_epochs_is_not_replaced_by_that_of_the_run():
    cfg = {"_target_": TORCH + "OneCycleLR", "max_lr": 0.3, "epochs": 2, "steps_per_epoch": 3}
    model, optim_wrapper = setup()
    seen = run(model, optim_wrapper, build_schedule(optim_wrapper, {"lr": cfg}, 50), 6)
    assert seen == lrs_by_hand(lambda o: lr_scheduler.OneCycleLR(o, 0.3, 6), 6)


def test_a_state_loaded_into_a_wrapper_with_updates_of_its_own_does_not_count_them():
    cfg = {"lr": {"_target_": TORCH + "ExponentialLR", "gamma": 0.5}}
    model, first = setup()
    schedule = build_schedule(first, cfg, 10)
    run(model, first, schedule, 2)
    other, second = setup()
    resumed = build_schedule(second, cfg, 10)
    for _ in range(5):  # made before the load, not yet seen by the schedule
        second.update_params(other(torch.ones(1, 1)).sum())
    resumed.load_state_dict(schedule.state_dict())
    resumed.step()
    assert second.get_lr()["lr"] == [pytest.approx(0.1 * 0.5**2)]
    assert run(other, second, resumed, 2) == pytest.approx([0.1 * 0.5**2, 0.1 * 0.5**3])


def test_a_state_of_other_hyperparameters_is_an_error():
    schedule = build_schedule(setup()[1], {"lr": {"_target_": TORCH + "ExponentialLR", "gamma": 0.5}}, 10)
    with pytest.raises(KeyError, match="weight_decay"):
        schedule.load_state_dict({"weight_decay": {}})


def test_a_step_past_the_end_stays_at_the_floor():
    model, optim_wrapper = setup()
    cfg = {"lr": {"_target_": OURS + "warmup_cosine", "min_factor": 0.1}}
    run(model, optim_wrapper, build_schedule(optim_wrapper, cfg, 3), 6)
    assert optim_wrapper.get_lr()["lr"] == [pytest.approx(0.01)]


def test_the_first_value_of_a_warm_up_counts_for_any_hyperparameter():
    _, optim_wrapper = setup()
    build_schedule(optim_wrapper, {"weight_decay": {"_target_": OURS + "warmup_cosine", "warmup": 9}}, 20)
    assert optim_wrapper.param_groups[0]["weight_decay"] == pytest.approx(0.001)


def test_a_tensor_learning_rate_can_be_scheduled():
    model = nn.Linear(1, 1)
    optim_wrapper = OptimWrapper(Adam(model.parameters(), lr=torch.tensor(0.1)))
    schedule = build_schedule(optim_wrapper, {"lr": {"_target_": TORCH + "StepLR", "step_size": 1}}, 2)
    run(model, optim_wrapper, schedule, 1)
    assert optim_wrapper.get_lr()["lr"] == [pytest.approx(0.01)]


def test_each_wrapper_of_a_dict_follows_its_own_updates():
    (gen, gen_wrapper), (disc, disc_wrapper) = setup(), setup(counts=2)
    wrappers = OptimWrapperDict(gen=gen_wrapper, disc=disc_wrapper)
    schedule = build_schedule(wrappers, {"lr": {"_target_": TORCH + "StepLR", "step_size": 1}}, 4)
    for _ in range(2):
        gen_wrapper.update_params(gen(torch.ones(1, 1)).sum())
        disc_wrapper.update_params(disc(torch.ones(1, 1)).sum())
        schedule.step()
    assert wrappers.get_lr() == {"gen.lr": [pytest.approx(0.001)], "disc.lr": [pytest.approx(0.01)]}
    assert schedule.state_dict().keys() == {"gen", "disc"}


def test_the_length_is_each_wrappers_own_number_of_updates():
    wrappers = OptimWrapperDict(gen=setup()[1], disc=setup(counts=2)[1])
    schedule = build_schedule(wrappers, {"lr": {"_target_": TORCH + "CosineAnnealingLR"}}, 9)
    lengths = {name: state["lr"]["scheduler"]["T_max"] for name, state in schedule.state_dict().items()}
    assert lengths == {"gen": 9, "disc": 5}


def test_each_wrapper_can_have_a_schedule_of_its_own():
    (gen, gen_wrapper), (disc, disc_wrapper) = setup(), setup()
    wrappers = OptimWrapperDict(gen=gen_wrapper, disc=disc_wrapper)
    cfg = {"gen": {"lr": {"_target_": TORCH + "StepLR", "step_size": 1}}}
    schedule = build_schedule(wrappers, cfg, 4)
    for model, wrapper in ((gen, gen_wrapper), (disc, disc_wrapper)):
        wrapper.update_params(model(torch.ones(1, 1)).sum())
    schedule.step()
    assert wrappers.get_lr() == {"gen.lr": [pytest.approx(0.01)], "disc.lr": [0.1]}


def test_schedules_of_several_wrappers_round_trip():
    def build():
        parts = {name: setup(counts=counts) for name, counts in (("gen", 1), ("disc", 2))}
        wrappers = OptimWrapperDict(**{name: wrapper for name, (_, wrapper) in parts.items()})
        cfg = {name: {"lr": {"_target_": TORCH + "CosineAnnealingLR"}} for name in parts}
        return parts, wrappers, build_schedule(wrappers, cfg, 8)

    def train(parts, wrappers, schedule, micro_batches):
        for _ in range(micro_batches):
            for model, wrapper in parts.values():
                wrapper.update_params(model(torch.ones(1, 1)).sum())
            schedule.step()
        return wrappers.get_lr()

    whole = build()
    expected = train(*whole, 6)
    first = build()
    train(*first, 4)
    second = build()
    second[1].load_state_dict(first[1].state_dict())
    second[2].load_state_dict(first[2].state_dict())
    assert second[1].get_lr() == first[1].get_lr()
    assert train(*second, 2) == expected


def test_a_misspelt_wrapper_is_named():
    wrappers = OptimWrapperDict(gen=setup()[1], disc=setup()[1])
    with pytest.raises(ConfigError, match=r"schedule.gne: there is no wrapper 'gne'. Did you mean 'gen'"):
        build_schedule(wrappers, {"gne": {"lr": {}}}, 4)


def test_wrappers_and_hyperparameters_side_by_side_are_an_error():
    wrappers = OptimWrapperDict(gen=setup()[1], disc=setup()[1])
    with pytest.raises(ConfigError, match="gen are wrappers and lr are not"):
        build_schedule(wrappers, {"gen": {}, "lr": {}}, 4)


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"lr": {"_target_": TORCH + "StepLR"}}, "schedule.lr"),
        ({"lr": {"_target_": TORCH + "StepLR", "step_size": "???"}}, "schedule.lr.step_size is not set"),
        ({"lr": {"_target_": TORCH + "StepLR", "step_sise": 1}}, "schedule.lr.step_sise.*'step_size'"),
        ({"lr": {"_target_": TORCH + "CosineLR"}}, "CosineLR"),
        ({"weight_decy": {"_target_": TORCH + "StepLR", "step_size": 1}}, "schedule.weight_decy.*weight_decay"),
        ({"nesterov": {"_target_": TORCH + "StepLR", "step_size": 1}}, "no number 'nesterov'"),
        ({"lr": {"_target_": OURS + "warmup_cosine", "warmup": 30}}, "warmup=30"),
        ({"lr": {"_target_": OURS + "multi_step", "milestones": [-1]}}, "milestones=-1"),
    ],
)
def test_errors_name_the_key(cfg, said):
    with pytest.raises(ConfigError, match=said):
        build_schedule(setup()[1], cfg, micro_batches=10)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda cfg: cfg["_target_"].rpartition(".")[2])
def test_a_resumed_schedule_goes_on_in_proportion_to_a_new_base_value(scheduler):
    model, first = setup()
    schedule = build_schedule(first, {"lr": scheduler}, 10)
    run(model, first, schedule, 4)
    state = schedule.state_dict()
    expected = run(model, first, schedule, 6)

    model = nn.Linear(1, 1)
    second = OptimWrapper(SGD(model.parameters(), lr=1.0))
    resumed = build_schedule(second, {"lr": scheduler}, 10)
    resumed.load_state_dict(state)
    assert run(model, second, resumed, 6) == pytest.approx([10 * lr for lr in expected])


def test_a_tensor_learning_rate_resumes_exactly():
    def build():
        model = nn.Linear(1, 1)
        optim_wrapper = OptimWrapper(Adam(model.parameters(), lr=torch.tensor(0.1)))
        cfg = {"lr": {"_target_": TORCH + "CosineAnnealingLR"}}
        return model, optim_wrapper, build_schedule(optim_wrapper, cfg, 10)

    def train(model, optim_wrapper, schedule, updates):
        run(model, optim_wrapper, schedule, updates)
        return optim_wrapper.get_lr()["lr"]

    model, first, schedule = build()
    train(model, first, schedule, 5)
    state = schedule.state_dict()
    expected = train(model, first, schedule, 3)
    model, second, resumed = build()
    resumed.load_state_dict(state)
    assert train(model, second, resumed, 3) == pytest.approx(expected)


COSINE = {"lr": {"_target_": TORCH + "CosineAnnealingLR"}}


def resumed(first, schedule, lr_mult, cfg=COSINE, updates=10):
    """Return a wrapper that goes on with `schedule` under other factors, and what goes on with it."""
    model = nn.ModuleDict({"stem": nn.Linear(1, 1, bias=False), "head": nn.Linear(1, 1, bias=False)})
    optim_wrapper = frozen_stem(model, lr_mult)
    optim_wrapper.updates = first.updates
    again = build_schedule(optim_wrapper, cfg, updates)
    again.load_state_dict(schedule.state_dict())
    return model, optim_wrapper, again


def frozen_stem(model, lr_mult):
    paramwise = {"custom_keys": {"stem": {"lr_mult": lr_mult}}}
    optimizer = {"_target_": "torch.optim.SGD", "lr": 0.1}
    return build_optim_wrapper(model, {"optimizer": optimizer, "paramwise_cfg": paramwise})


def lr_of_stem(optim_wrapper):
    return next(g["lr"] for g in optim_wrapper.param_groups if "stem.weight" in g["param_names"])


@pytest.mark.parametrize(("lr_mult", "right"), [(1.0, 0.0655), (0.1, 0.00655), (0, 0.0)])
def test_what_was_frozen_goes_on_at_the_place_of_the_schedule(lr_mult, right):
    model = nn.ModuleDict({"stem": nn.Linear(1, 1, bias=False), "head": nn.Linear(1, 1, bias=False)})
    first = frozen_stem(model, 0)
    schedule = build_schedule(first, COSINE, 10)
    for _ in range(4):
        first.update_params(model["head"](model["stem"](torch.ones(1, 1))).sum())
        schedule.step()
    assert lr_of_stem(first) == 0
    _, second, _ = resumed(first, schedule, lr_mult)
    assert lr_of_stem(second) == pytest.approx(right, rel=1e-3)


def test_a_longer_run_goes_on_along_its_own_curve():
    model = nn.ModuleDict({"stem": nn.Linear(1, 1, bias=False), "head": nn.Linear(1, 1, bias=False)})
    first = frozen_stem(model, 1)
    schedule = build_schedule(first, COSINE, 10)
    for _ in range(8):
        first.update_params(model["head"](model["stem"](torch.ones(1, 1))).sum())
        schedule.step()
    model, second, longer = resumed(first, schedule, 1, updates=20)
    seen = []
    for _ in range(12):
        seen.append(lr_of_stem(second))
        second.update_params(model["head"](model["stem"](torch.ones(1, 1))).sum())
        longer.step()
    assert seen == pytest.approx([0.05 * (1 + math.cos(math.pi * update / 20)) for update in range(8, 20)])


def test_what_a_plateau_has_seen_counts_on_under_another_base_value():
    plateau = {"lr": {"_target_": TORCH + "ReduceLROnPlateau", "patience": 1, "factor": 0.5}}
    _, first = setup()
    schedule = build_schedule(first, plateau, 10)
    for metric in (1.0, 2.0, 2.0, 2.0):  # lowered once; one bad evaluation since
        schedule.step_on_metric(metric)
    second = OptimWrapper(SGD(nn.Linear(1, 1).parameters(), lr=1.0))
    again = build_schedule(second, plateau, 10)
    again.load_state_dict(schedule.state_dict())
    assert second.get_lr()["lr"] == [0.5]
    again.step_on_metric(1.5)
    assert second.get_lr()["lr"] == [0.25]


def test_a_decay_that_is_off_stays_off_under_a_schedule_of_the_weight_decay():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    optimizer = {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.1}
    paramwise = {"norm_decay_mult": 0, "custom_keys": {"0.bias": {"decay_mult": 0.5}}}
    optim_wrapper = build_optim_wrapper(model, {"optimizer": optimizer, "paramwise_cfg": paramwise})
    cfg = {"weight_decay": {"_target_": TORCH + "CosineAnnealingLR", "eta_min": 0.02}}
    schedule = build_schedule(optim_wrapper, cfg, 4)
    for _ in range(4):
        optim_wrapper.update_params(model(torch.ones(2, 1)).sum())
        schedule.step()
    decays = {name: group["weight_decay"] for group in optim_wrapper.param_groups for name in group["param_names"]}
    assert decays == {
        "0.weight": pytest.approx(0.02), "0.bias": pytest.approx(0.01), "1.weight": 0.0, "1.bias": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["PolynomialLR", "LinearLR", "ConstantLR"])
def test_a_length_that_is_left_out_is_that_of_the_run(name):
    model, optim_wrapper = setup()
    schedule = build_schedule(optim_wrapper, {"lr": {"_target_": TORCH + name}}, 20)
    expected = lrs_by_hand(lambda o: getattr(lr_scheduler, name)(o, total_iters=20), 20)
    assert run(model, optim_wrapper, schedule, 20) == expected
    assert len(set(expected[6:])) == (1 if name == "ConstantLR" else 14)


@pytest.mark.parametrize("milestones", [[3, 9], [0.15, 9], [0.15, 0.45]])
def test_parts_of_a_sequence_have_what_their_milestones_leave(milestones):
    model, optim_wrapper = setup()
    parts = [{"_target_": TORCH + name} for name in ("LinearLR", "PolynomialLR", "OneCycleLR")]
    cfg = {"_target_": TORCH + "SequentialLR", "milestones": milestones, "schedulers": parts}
    schedule = build_schedule(optim_wrapper, {"lr": cfg}, 20)

    def by_hand(optimizer):
        first = lr_scheduler.LinearLR(optimizer, total_iters=3)
        second = lr_scheduler.PolynomialLR(optimizer, total_iters=6)
        third = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=11)
        return lr_scheduler.SequentialLR(optimizer, [first, second, third], [3, 9])

    seen = run(model, optim_wrapper, schedule, 20)
    assert seen == lrs_by_hand(by_hand, 20)
    assert max(seen[9:]) == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize("order", ["load, build", "build, load"])
def test_the_order_of_building_and_loading_changes_nothing(order):
    cfg = {"lr": {"_target_": TORCH + "OneCycleLR"}}
    model, first = setup()
    schedule = build_schedule(first, cfg, 10)
    run(model, first, schedule, 4)
    state, place = first.state_dict(), schedule.state_dict()
    expected = run(model, first, schedule, 6), first.get_momentum()
    model, second = setup()
    if order == "load, build":
        second.load_state_dict(state)
    again = build_schedule(second, cfg, 10)
    again.load_state_dict(place)
    if order == "build, load":
        second.load_state_dict(state)
    assert (run(model, second, again, 6), second.get_momentum()) == expected


def test_a_param_group_added_in_mid_run_moves_with_the_others_from_its_own_value():
    model, optim_wrapper = setup()
    cosine = {"_target_": TORCH + "CosineAnnealingLR"}
    schedule = build_schedule(optim_wrapper, {"lr": cosine, "weight_decay": cosine}, 10)
    run(model, optim_wrapper, schedule, 5)
    head = nn.Linear(1, 1)
    optim_wrapper.optimizer.add_param_group({"params": list(head.parameters()), "lr": 0.2})
    run(model, optim_wrapper, schedule, 1)
    factor = 0.5 * (1 + math.cos(math.pi * 0.6))
    assert optim_wrapper.get_lr()["lr"] == pytest.approx([0.1 * factor, 0.2 * factor])
    assert schedule.state_dict()["lr"]["position"] == 6


def test_a_second_schedule_begins_at_the_base_value_again():
    model, optim_wrapper = setup(groups=2)
    run(model, optim_wrapper, build_schedule(optim_wrapper, COSINE, 5), 5)
    assert optim_wrapper.get_lr()["lr"] == pytest.approx([0, 0])
    build_schedule(optim_wrapper, COSINE, 5)
    assert optim_wrapper.get_lr()["lr"] == [0.1, 0.2]


def test_a_plateau_lowers_a_tensor_that_param_groups_share_once():
    lr = torch.tensor(0.1)
    params = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for _ in range(3)]
    optim_wrapper = OptimWrapper(Adam(params, lr=lr))
    cfg = {"lr": {"_target_": TORCH + "ReduceLROnPlateau", "patience": 0, "factor": 0.5}}
    schedule = build_schedule(optim_wrapper, cfg, 10)
    for metric in (1.0, 2.0):
        schedule.step_on_metric(metric)
    assert optim_wrapper.get_lr()["lr"] == pytest.approx([0.05] * 3)


def test_an_optimizer_with_a_schedule_of_its_own_needs_no_lr():
    class OwnSchedule(SGD):
        def __init__(self, params, lr=None):
            super().__init__(params, lr=0.1)
            self.defaults["lr"] = self.param_groups[0]["lr"] = lr

        def step(self, closure=None):
            pass

    model = nn.Linear(1, 1)
    optim_wrapper = OptimWrapper(OwnSchedule(model.parameters()))
    assert run(model, optim_wrapper, build_schedule(optim_wrapper, {}, 2), 2) == [None, None]
    with pytest.raises(ConfigError, match="no number 'lr' to schedule"):
        build_schedule(optim_wrapper, COSINE, 2)


def test_values_for_each_param_group_are_an_error_that_says_where_they_belong():
    cfg = {"lr": {"_target_": TORCH + "OneCycleLR", "max_lr": [0.1, 0.2]}}
    with pytest.raises(ConfigError, match=r"schedule\.lr: .*paramwise_cfg"):
        build_schedule(setup(groups=2)[1], cfg, 10)


@pytest.mark.parametrize("last", ["CosineAnnealingLR", "ReduceLROnPlateau", "SequentialLR"])
def test_a_warm_up_of_no_update_is_none(last):
    parts = [{"_target_": TORCH + "LinearLR", "start_factor": 0.1}, {"_target_": TORCH + last}]
    milestones = [0]
    if last == "SequentialLR":
        parts[1:], milestones = [{"_target_": TORCH + "ConstantLR", "factor": 0.5}] * 2, [0, 4]
    cfg = {"_target_": TORCH + "SequentialLR", "milestones": milestones, "schedulers": parts}
    model, optim_wrapper = setup()
    schedule = build_schedule(optim_wrapper, {"lr": cfg}, 8)
    seen = run(model, optim_wrapper, schedule, 8)
    if last == "CosineAnnealingLR":
        assert seen == lrs_by_hand(lambda o: lr_scheduler.CosineAnnealingLR(o, 8), 8)
    else:
        assert seen == [0.1 if last == "ReduceLROnPlateau" else 0.05] * 8
