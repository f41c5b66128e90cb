import torch
from torch import nn

from optwrap.plan.ranks import ALONE, Ranks


def test_alone_every_call_returns_what_it_was_given():
    assert ALONE == Ranks.current() == Ranks(0, 1)
    assert ALONE.is_first
    assert ALONE.first({"a": 1}) == {"a": 1}
    assert ALONE.gather("x") == ["x"]
    assert ALONE.mean({"loss": 2.0}) == {"loss": 2.0}
    assert ALONE.all_of({"loss": 3}) == {"loss": 3}
    assert ALONE.agreement() is None
    model = nn.BatchNorm1d(2)
    ALONE.share_buffers(model)
    assert torch.equal(model.running_mean, torch.zeros(2))
