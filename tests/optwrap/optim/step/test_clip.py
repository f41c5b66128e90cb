import math

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, SparseAdam

from optwrap.errors import ConfigError
from optwrap.optim import AmpOptimWrapper, ClipNorm, ClipValue, HybridOptimizer, OptimWrapper
from optwrap.optim.step.clip import multiply_grads, parse_clip_grad


@pytest.mark.parametrize(
    ("cfg", "strategy"),
    [
        (None, None),
        ({}, None),
        (
            {"max_norm": None, "norm_type": 2.0, "error_if_nonfinite": False, "clip_value": None, "type": None},
            None,
        ),
        ({"max_norm": 1}, ClipNorm(1.0)),
        ({"type": "norm", "max_norm": 1, "norm_type": "inf"}, ClipNorm(1.0, float("inf"))),
        ({"max_norm": 1, "error_if_nonfinite": True}, ClipNorm(1.0, 2.0, True)),
        ({"clip_value": 0.2}, ClipValue(0.2)),
        ({"type": "value", "clip_value": 0.2, "norm_type": 2.0}, ClipValue(0.2)),
    ],
)
def test_strategy_is_inferred(cfg, strategy):
    assert parse_clip_grad(cfg) == strategy


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"max_nrom": 1}, "'max_norm'"),
        ({"type": "nrom", "max_norm": 1}, "clip_grad.type='nrom'"),
        ({"type": "norm"}, "needs clip_grad.max_norm"),
        ({"type": "value", "max_norm": 1.0}, "needs clip_grad.clip_value"),
        ({"max_norm": 1, "clip_value": 1}, "keep one"),
        ({"max_norm": -1}, "max_norm=-1"),
        ({"max_norm": float("nan")}, "max_norm=nan"),
        ({"max_norm": "much"}, "max_norm='much'"),
        ({"clip_value": 0}, "clip_value=0"),
    ],
)
def test_errors_name_the_field_and_the_remedy(cfg, said):
    with pytest.raises(ConfigError, match=said):
        parse_clip_grad(cfg)


def test_the_config_is_not_modified():
    cfg = {"type": "norm", "max_norm": 1}
    parse_clip_grad(cfg)
    assert cfg == {"type": "norm", "max_norm": 1}


def test_grads_are_multiplied_in_place():
    grads = [torch.ones(2), torch.full((3,), 2.0, dtype=torch.float64)]
    multiply_grads(grads, torch.tensor(0.5))
    assert grads[0].tolist() == [0.5, 0.5]
    assert grads[1].tolist() == [1.0, 1.0, 1.0]


def test_values_of_no_gradients_are_nothing_to_clip():
    ClipValue(0.1)([nn.Parameter(torch.ones(2))])


ROWS = torch.tensor([1, 1, 3])  # a repeated row: its gradients count as their sum


def table(sparse):
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 2, sparse=sparse), nn.Linear(2, 1))


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("clip_grad", ["max_norm", "clip_value", "max_norm=inf", None])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("weight", [None, 3])
def test_sparse_gradients_are_clipped_and_measured_as_dense_ones(norm_type, clip_grad, scaled, weight):
    model, expected = table(sparse=True), table(sparse=False)
    cfg = {
        "max_norm": {"max_norm": 0.5, "norm_type": norm_type},
        "max_norm=inf": {"max_norm": "inf", "norm_type": norm_type},
        "clip_value": {"clip_value": 0.3},
        None: None,
    }[clip_grad]
    kwargs = {"dtype": "float16", "loss_scale": 8} if scaled else {}
    kind = AmpOptimWrapper if scaled else OptimWrapper
    optim_wrapper = kind(SGD(model.parameters(), lr=1.0), 2, cfg, **kwargs)
    optim_wrapper.norm_is_due = lambda update: True
    for rows in (ROWS, ROWS[1:]):
        optim_wrapper.update_params(model(rows).sum(), weight=weight)
        (expected(rows).sum() / 2).backward()
    norm = torch.nn.utils.get_total_norm(
        [param.grad for param in expected.parameters()],
        norm_type if clip_grad in ("max_norm", "max_norm=inf") else 2.0,
    )
    if clip_grad == "max_norm":
        clip_grad_norm_(expected.parameters(), 0.5, norm_type)
    elif clip_grad == "clip_value":
        clip_grad_value_(expected.parameters(), 0.3)
        norm = torch.nn.utils.get_total_norm([param.grad for param in expected.parameters()])
    SGD(expected.parameters(), lr=1.0).step()
    torch.testing.assert_close(optim_wrapper.last_grad_norm, norm)
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


def test_torchs_own_norm_of_sparse_gradients_is_the_same():
    ours, theirs = table(sparse=True), table(sparse=True)
    for model in (ours, theirs):
        model(ROWS).sum().backward()
    for norm_type in (1.0, 2.0, math.inf):
        mine = ClipNorm(0.5, norm_type)(list(ours.parameters()))
        torch.testing.assert_close(mine, clip_grad_norm_(theirs.parameters(), 0.5, norm_type))
    for param, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(param.grad.to_dense(), other.grad.to_dense())


def test_sparse_adam_beside_sgd_clips_by_one_norm():
    model, expected = table(sparse=True), table(sparse=True)

    def optimizers(net):
        return SparseAdam(net[0].parameters(), lr=0.1), SGD(net[1].parameters(), lr=0.1)

    sparse, rest = optimizers(model)
    optim_wrapper = OptimWrapper(HybridOptimizer({"sparse": sparse, "rest": rest}), clip_grad={"max_norm": 0.5})
    by_hand = optimizers(expected)
    for _ in range(3):
        optim_wrapper.update_params(model(ROWS).square().sum())
        expected(ROWS).square().sum().backward()
        clip_grad_norm_(expected.parameters(), 0.5)
        for optimizer in by_hand:
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(model.state_dict(), expected.state_dict())
