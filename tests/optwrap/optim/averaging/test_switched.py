import copy

import pytest
import schedulefree
import torch
from torch import nn

from optwrap.optim import OptimWrapper, build_optim_wrapper, named_state_dict
from optwrap.optim.averaging.switched import switches
from optwrap.optim.named_state import evaluated_weights

KINDS = {"AdamWScheduleFree": {"warmup_steps": 3}, "SGDScheduleFree": {"momentum": 0.8}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [1, 2])
def test_training_and_evaluation_weights_are_those_of_the_package(
    kind, counts, twins, batches, loss_of, assert_close
):
    model, expected = twins
    optim_wrapper = OptimWrapper(getattr(schedulefree, kind)(model.parameters(), lr=0.1, **KINDS[kind]), counts)
    plain = getattr(schedulefree, kind)(expected.parameters(), lr=0.1, **KINDS[kind])
    plain.train()
    for i, batch in enumerate(batches):
        optim_wrapper.update_params(loss_of(model, batch))
        (loss_of(expected, batch) / counts).backward()
        if (i + 1) % counts == 0:
            plain.step()
            plain.zero_grad()
    assert_close(model, expected)
    plain.eval()
    with optim_wrapper.evaluation_weights():
        assert_close(model, expected)
    assert not torch.equal(model[0].weight, expected[0].weight)


def test_an_evaluation_changes_no_bit_of_training(twins, batches, loss_of):
    model, other = twins
    wrappers = [OptimWrapper(schedulefree.AdamWScheduleFree(each.parameters(), lr=0.1)) for each in twins]
    for batch in batches:
        for each, optim_wrapper in zip(twins, wrappers, strict=True):
            optim_wrapper.update_params(loss_of(each, batch))
        with wrappers[1].evaluation_weights():
            pass
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_what_is_saved_by_name_holds_the_weights_to_evaluate(twins, batches, loss_of):
    model, _ = twins
    optimizer = {"_target_": "schedulefree.AdamWScheduleFree", "lr": 0.1}
    optim_wrapper = build_optim_wrapper(model, {"optimizer": optimizer})
    for batch in batches:
        optim_wrapper.update_params(loss_of(model, batch))
    saved = evaluated_weights(named_state_dict(optim_wrapper))
    with optim_wrapper.evaluation_weights():
        expected = copy.deepcopy(dict(model.named_parameters()))
    assert all(torch.equal(saved[name], value) for name, value in expected.items())
    assert set(saved) == set(expected)


def test_a_part_of_a_hybrid_one_is_switched_too():
    model = nn.Sequential(
        nn.Embedding(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Linear(4, 2)
    )
    cfg = {
        "constructor": {"_target_": "optwrap.optim.HybridOptimWrapperConstructor"},
        "optimizer": {"_target_": "schedulefree.AdamWScheduleFree", "lr": 0.1},
        "hidden_optimizer": {"_target_": "torch.optim.Muon", "lr": 0.1},
        "head": ["3"],
    }
    optim_wrapper = build_optim_wrapper(model, cfg)
    assert switches(optim_wrapper.optimizer)
    for _ in range(3):
        optim_wrapper.update_params(model(torch.arange(4)).square().mean())
    before = copy.deepcopy(model.state_dict())
    with optim_wrapper.evaluation_weights():
        now = copy.deepcopy(model.state_dict())
    changed = {name for name, value in now.items() if not torch.equal(value, before[name])}
    assert changed == {"0.weight", "3.weight", "3.bias"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
