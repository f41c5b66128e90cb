import pytest
import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import ClipNorm, ClipValue
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
