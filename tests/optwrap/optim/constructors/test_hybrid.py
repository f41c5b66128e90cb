import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Muon

from optwrap.errors import ConfigError
from optwrap.optim import HybridOptimizer, OptimWrapper, build_optim_wrapper, build_schedule
from optwrap.optim.assignment.hidden.matrices import hidden_matrices

HYBRID = "optwrap.optim.HybridOptimWrapperConstructor"
MUON = {"_target_": "torch.optim.Muon", "lr": 0.02, "weight_decay": 0.1}
ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.003, "weight_decay": 0.01}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.hidden1, self.norm, self.hidden2 = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 4)

    def forward(self, tokens):
        return self.head(self.hidden2(self.norm(self.hidden1(self.embedding(tokens)))))


def build(model, **cfg):
    full = {"constructor": HYBRID, "optimizer": ADAMW, "hidden_optimizer": MUON, **cfg}
    return build_optim_wrapper(model, full)


HIDDEN = {"hidden1.weight", "hidden2.weight"}


def test_hidden_matrices_go_to_muon_and_the_rest_to_adamw():
    rules = {a.name: a.rule.partition(":")[0] for a in build(Small()).assignments}
    assert {name for name, rule in rules.items() if rule == "Muon"} == HIDDEN
    assert {rule for name, rule in rules.items() if name not in HIDDEN} == {"AdamW"}


def test_a_listed_head_replaces_the_guess():
    rules = {a.name: a.rule for a in build(Small(), head=["hidden1"]).assignments}
    assert rules["hidden1.weight"].startswith("AdamW")
    assert rules["head.weight"].startswith("Muon")


class TokenModel(nn.Module):
    """Tokens and positions as bare parameters, a gain, and a head that shares the embedding's weight."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(3, 4))
        self.embedding = nn.Embedding(5, 4)
        self.hidden = nn.Linear(4, 4)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 5)
        self.head.weight = self.embedding.weight


def test_bare_parameters_gains_and_a_tied_head_are_no_hidden_matrices():
    assert {each.param.name for each in hidden_matrices(TokenModel())} == {
        "hidden.weight",
        "normed.parametrizations.weight.original1",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    }


@pytest.mark.parametrize("first", ["embedding", "head"])
def test_a_tied_weight_is_the_embeddings_whichever_is_defined_first(first):
    second = "head" if first == "embedding" else "embedding"
    layers = {"embedding": nn.Embedding(5, 4), "head": nn.Linear(4, 5)}
    model = nn.ModuleDict({first: layers[first], "hidden": nn.Linear(4, 4), second: layers[second]})
    model["head"].weight = model["embedding"].weight
    assert [each.param.name for each in hidden_matrices(model)] == ["hidden.weight"]
    assert [each.param.name for each in hidden_matrices(model, ["head"])] == ["hidden.weight"]
    assert [each.param.name for each in hidden_matrices(model, ["hidden", "embedding"])] == []


def test_a_head_that_is_defined_first_leaves_the_last_matrix_of_the_body_to_muon():
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.stem, self.last = nn.Linear(4, 3), nn.Linear(4, 4), nn.Linear(4, 4)

    rules = {a.name: a.rule.partition(":")[0] for a in build(Body()).assignments}
    assert {name for name, rule in rules.items() if rule == "Muon"} == {"stem.weight", "last.weight"}


@pytest.mark.parametrize("convolutions", [True, False])
def test_the_log_says_what_share_of_the_trainable_weights_is_held(convolutions, caplog):
    caplog.set_level("INFO")
    model = nn.Sequential(
        nn.Conv2d(4, 5, 2, bias=False), nn.Flatten(), nn.Linear(5, 4, bias=False), nn.Linear(4, 5)
    )
    model[3].bias.requires_grad_(False)
    build(model, hidden_convolutions=convolutions)  # 80 and 20 of 120
    held = "83 % of the weights, 2 matrices" if convolutions else "17 % of the weights, 1 matrix"
    assert f"Muon holds {held}." in caplog.text


def test_a_model_of_convolutions_alone_needs_them():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 5, 1))
    assert {each.name for each in build(model).assignments if each.rule.startswith("Muon")} == {"1.weight"}
    with pytest.raises(
        ConfigError, match=r"hidden_optimizer: no trainable.*hidden_convolutions=true gives it the conv"
    ):
        build(model, hidden_convolutions=False)


def test_a_key_may_match_frozen_parameters_of_one_and_trainable_ones_of_the_other():
    model = Small()
    model.hidden1.weight.requires_grad_(False)
    got = {a.name: a for a in build(model, paramwise_cfg={"custom_keys": {"hidden1": {"lr_mult": 2}}}).assignments}
    assert "hidden1.weight" not in got
    assert got["hidden1.bias"].options["lr"] == pytest.approx(0.006)


@pytest.mark.parametrize("counts", [1, 2])
def test_training_equals_two_optimizers_by_hand(counts, assert_close):
    model = Small()
    expected = copy.deepcopy(model)
    tokens, target = torch.randint(5, (6, 8)), torch.randint(3, (6, 8))
    optim_wrapper = build(model, accumulative_counts=counts, clip_grad={"max_norm": 0.1})
    for i in range(6):
        optim_wrapper.update_params(nn.functional.cross_entropy(model(tokens[i]), target[i]))

    matrices = [p for name, p in expected.named_parameters() if name in HIDDEN]
    rest = [p for name, p in expected.named_parameters() if name not in HIDDEN]
    muon, adamw = Muon(matrices, lr=0.02, weight_decay=0.1), AdamW(rest, lr=0.003, weight_decay=0.01)
    for i in range(6):
        (nn.functional.cross_entropy(expected(tokens[i]), target[i]) / counts).backward()
        if (i + 1) % counts == 0:
            clip_grad_norm_([*matrices, *rest], 0.1)
            for optimizer in (muon, adamw):
                optimizer.step()
                optimizer.zero_grad()
    assert_close(model, expected)


def test_paramwise_rules_apply_to_both_with_their_own_base():
    cfg = {"norm_decay_mult": 0, "lr_mult": 0.5, "custom_keys": {"hidden1": {"lr_mult": 4}}}
    got = {a.name: a.options for a in build(Small(), paramwise_cfg=cfg).assignments}
    assert got["hidden1.weight"] == pytest.approx({"lr": 0.04, "weight_decay": 0.1})
    assert got["hidden1.bias"] == pytest.approx({"lr": 0.006, "weight_decay": 0.01})
    assert got["hidden2.weight"]["lr"] == pytest.approx(0.01)
    assert got["norm.weight"]["weight_decay"] == 0


def test_a_key_that_matches_nothing_in_either_is_an_error():
    with pytest.raises(ConfigError, match="'hiden' matches no parameter"):
        build(Small(), paramwise_cfg={"custom_keys": {"hiden": {"lr_mult": 4}}})


def test_state_round_trips_and_groups_stay_live(assert_equal):
    model = Small()
    tokens, target = torch.randint(5, (8,)), torch.randint(3, (8,))

    def train(net, wrapper):
        wrapper.update_params(nn.functional.cross_entropy(net(tokens), target))

    first = build(model)
    train(model, first)
    other = copy.deepcopy(model)
    second = build(other)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for wrapper in (first, second):
        for group in wrapper.param_groups:
            group["lr"] *= 0.5
    train(model, first)
    train(other, second)
    assert_equal(model, other)


def test_a_schedule_moves_both_from_their_own_lr():
    optim_wrapper = build(Small())
    cfg = {"lr": {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 1}}
    schedule = build_schedule(optim_wrapper, cfg, 2)
    optim_wrapper.step()
    schedule.step()
    assert sorted({round(lr, 6) for lr in optim_wrapper.get_lr()["lr"]}) == [0.0003, 0.002]


def test_one_cycle_needs_its_momentum_cycle_off_and_says_so():
    cfg = {"lr": {"_target_": "torch.optim.lr_scheduler.OneCycleLR"}}
    with pytest.raises(ConfigError, match=r"Set schedule\.lr\.cycle_momentum=false"):
        build_schedule(build(Small()), cfg, 5)
    cfg["lr"]["cycle_momentum"] = False
    build_schedule(build(Small()), cfg, 5)


def test_loss_scaling_skips_both(assert_equal):
    model = Small()
    before = copy.deepcopy(model)
    optim_wrapper = build(model, _target_="optwrap.optim.AmpOptimWrapper", dtype="float16")
    optim_wrapper.update_params(model(torch.randint(5, (8,))).sum() * 1e38)
    assert optim_wrapper.skipped_steps == 1
    assert_equal(model, before)


def test_a_state_of_other_optimizers_is_an_error():
    optimizer = HybridOptimizer({"a": AdamW(nn.Linear(1, 1).parameters())})
    with pytest.raises(KeyError, match=r"\['a'\]"):
        optimizer.load_state_dict({"b": {}})


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"hidden_optimizer": None}, "hidden_optimizer is not set"),
        ({"hidden_optimizer": {**MUON, "momentm": 1}}, "optim_wrapper.hidden_optimizer.momentm.*'momentum'"),
        ({"head": ["hidden", "head"]}, "optim_wrapper.hidden_optimizer: no trainable parameter"),
        ({"split_fused": ["hiden"]}, "optim_wrapper.split_fused: 'hiden' matches no hidden matrix.*'hidden"),
        ({"hidden_convolutions": "no"}, "optim_wrapper.hidden_convolutions='no': it is true or false"),
        ({"head": ["haed"]}, "optim_wrapper.head: 'haed' matches no parameter. Did you mean 'head'"),
        ({"paramwise_cfg": {"custom_keys": {"hidden1": {"betas": [0.9, 0.9]}}}}, "Muon has no option 'betas'"),
    ],
)
def test_errors_name_the_key(cfg, said):
    with pytest.raises(ConfigError, match=said):
        build(Small(), **cfg)


def test_a_hybrid_takes_no_group_that_none_of_its_optimizers_would_step():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    hybrid = HybridOptimizer({"a": torch.optim.SGD(first.parameters(), lr=0.1)})
    with pytest.raises(NotImplementedError, match="Add the group to one of a, then build a new wrapper"):
        hybrid.add_param_group({"params": second.parameters()})


def test_a_copied_hybrid_goes_on():
    model = nn.Linear(2, 2)
    wrapper = OptimWrapper(HybridOptimizer({"a": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)}))
    results = []
    for each in (wrapper, copy.deepcopy(wrapper)):
        for _ in range(3):
            for param in each.param_groups[0]["params"]:
                param.grad = torch.ones_like(param)
            each.step()
        results.append(each.param_groups[0]["params"])
    torch.testing.assert_close(*results, rtol=0, atol=0)
