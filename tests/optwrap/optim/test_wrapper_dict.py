import copy
from collections.abc import Mapping

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from optwrap.errors import ConfigError
from optwrap.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict


@pytest.fixture
def models():
    return {"gen": nn.Linear(2, 2), "disc": nn.Linear(2, 1)}


def wrappers_of(models):
    return OptimWrapperDict(
        gen=OptimWrapper(SGD(models["gen"].parameters(), lr=0.01, momentum=0.9)),
        disc=AmpOptimWrapper(Adam(models["disc"].parameters(), lr=0.02), dtype="float16"),
    )


def test_it_is_a_mapping_and_no_wrapper(models):
    wrappers = wrappers_of(models)
    assert isinstance(wrappers, Mapping)
    assert not isinstance(wrappers, OptimWrapper)
    assert list(wrappers) == ["gen", "disc"]
    assert isinstance(wrappers["disc"], AmpOptimWrapper)
    assert len(wrappers) == 2


def test_lr_and_momentum_carry_the_names(models):
    wrappers = wrappers_of(models)
    assert wrappers.get_lr() == {"gen.lr": [0.01], "disc.lr": [0.02]}
    assert wrappers.get_momentum() == {"gen.momentum": [0.9], "disc.momentum": [0.9]}


def test_states_are_nested_by_name_and_round_trip(models):
    wrappers = wrappers_of(models)
    wrappers["gen"].update_params(models["gen"](torch.ones(1, 2)).sum())
    state = copy.deepcopy(wrappers.state_dict())
    assert state.keys() == {"gen", "disc"}
    assert "loss_scaler" in state["disc"]
    other = wrappers_of(models)
    other.load_state_dict(state)
    torch.testing.assert_close(other.state_dict(), state)


@pytest.mark.parametrize(
    ("names", "said"), [(["gen"], r"lacks \['disc'\]"), (["gen", "disc", "critic"], r"\['critic'\] too many")]
)
def test_missing_and_left_over_names_are_errors_that_name_them(names, said, models):
    wrappers = wrappers_of(models)
    state = {name: wrappers["gen"].state_dict() for name in names}
    with pytest.raises(KeyError, match=said):
        wrappers.load_state_dict(state)


@pytest.mark.parametrize("method", ["update_params", "backward", "step", "optim_context", "scale_loss"])
def test_a_training_method_names_the_wrappers_to_call_instead(method, models):
    with pytest.raises(
        AttributeError, match=rf"optim_wrapper\['gen'\].{method}.*optim_wrapper\['disc'\].{method}"
    ):
        getattr(wrappers_of(models), method)


@pytest.mark.parametrize("error", [NotImplementedError, AttributeError, ConfigError])
def test_the_error_of_a_training_method_is_caught_as_whatever_it_is_taken_for(error, models):
    with pytest.raises(error):
        wrappers_of(models).step()


def test_groups_and_defaults_carry_the_names(models):
    wrappers = wrappers_of(models)
    assert wrappers.param_groups == {name: wrapper.optimizer.param_groups for name, wrapper in wrappers.items()}
    assert wrappers.defaults == {name: wrapper.optimizer.defaults for name, wrapper in wrappers.items()}
    assert wrappers["gen"].defaults["lr"] == wrappers["gen"].optimizer.defaults["lr"]


def test_all_gradients_are_zeroed_together(models):
    wrappers = wrappers_of(models)
    for name, wrapper in wrappers.items():
        wrapper.backward(models[name](torch.ones(1, 2)).sum())
    wrappers.zero_grad(set_to_none=False)
    assert all(not param.grad.any() for model in models.values() for param in model.parameters())
    wrappers.zero_grad()
    assert all(param.grad is None for model in models.values() for param in model.parameters())


def test_a_task_for_one_wrapper_that_got_several_is_the_users_to_put_right(models):
    with pytest.raises(ConfigError, match="needs a single wrapper, such as optim_wrapper=sgd"):
        wrappers_of(models).update_params(torch.zeros(()))


def test_other_missing_attributes_and_names_are_ordinary_errors(models):
    wrappers = wrappers_of(models)
    with pytest.raises(AttributeError, match="has no attribute 'optimiser'"):
        _ = wrappers.optimiser
    with pytest.raises(KeyError, match="gen, disc"):
        wrappers["generator"]


def test_only_wrappers_can_be_collected(models):
    with pytest.raises(TypeError, match="'gen'"):
        OptimWrapperDict(gen=SGD(models["gen"].parameters(), lr=0.1))


def test_counts_are_initialised_for_every_wrapper(models):
    wrappers = wrappers_of(models)
    wrappers.initialize_count_status(nn.ModuleDict(models), 3, 10)
    assert [wrapper.inner_count for wrapper in wrappers.values()] == [3, 3]


def test_it_can_be_copied(models):
    assert copy.deepcopy(wrappers_of(models)).get_lr() == wrappers_of(models).get_lr()


def test_one_loss_over_two_wrappers_as_the_docs_have_it_is_the_loop_by_hand():
    """One updates after each micro-batch, the other after every second, with momentum, clip and own lr."""
    parts = nn.ModuleDict({"encoder": nn.Linear(3, 4), "head": nn.Linear(4, 2)})
    twin = copy.deepcopy(parts)
    wrappers = OptimWrapperDict(
        encoder=OptimWrapper(SGD(parts["encoder"].parameters(), lr=0.1, momentum=0.9), accumulative_counts=2),
        head=OptimWrapper(Adam(parts["head"].parameters(), lr=0.02), clip_grad={"max_norm": 0.1}),
    )
    by_hand = {
        "encoder": SGD(twin["encoder"].parameters(), lr=0.1, momentum=0.9),
        "head": Adam(twin["head"].parameters(), lr=0.02),
    }
    for count, batch in enumerate(torch.randn(6, 5, 3), start=1):
        loss = parts["head"](parts["encoder"](batch)).square().mean()
        for each in wrappers.values():
            own = [param for group in each.param_groups for param in group["params"]]
            each.backward(each.scale_loss(loss), inputs=own, retain_graph=True)
        for each in wrappers.values():
            if each.should_update():
                each.step()
                each.zero_grad()

        loss = twin["head"](twin["encoder"](batch)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin["head"].parameters(), 0.1)
        by_hand["head"].step()
        by_hand["head"].zero_grad()
        if count % 2 == 0:
            for param in twin["encoder"].parameters():
                param.grad /= 2
            by_hand["encoder"].step()
            by_hand["encoder"].zero_grad()
    torch.testing.assert_close(parts.state_dict(), twin.state_dict())
