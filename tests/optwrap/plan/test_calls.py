import math

import pytest
from torch import nn, ones

from optwrap.errors import ConfigError
from optwrap.optim import MultiOptimWrapperConstructor, build_optim_wrapper, build_schedule
from optwrap.plan.calls import CallCheck, begin

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
COSINE = {"lr": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR"}}


def gan(**wrappers):
    """Return a model and its wrappers: `generator` and `critic`, with what their configs add."""
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in ("generator", "critic")})
    cfg = {name: {"optimizer": SGD, **wrappers.get(name, {})} for name in model}
    return model, build_optim_wrapper(model, {**cfg, "constructor": MultiOptimWrapperConstructor})


def train(model, wrappers, schedule, batches, generator_at=lambda batch: True):
    """A critic that steps twice a batch; the lr of each of its updates, and of those of the generator."""
    check = CallCheck({f"{name}.": wrapper for name, wrapper in wrappers.items()})
    seen = {"generator": [], "critic": []}
    for batch in batches:
        for name in ("critic", "critic") + ("generator",) * generator_at(batch):
            seen[name].append(wrappers[name].get_lr()["lr"][0])
            wrappers[name].update_params(model[name](ones(1, 1)).sum())
        schedule.step()
        check(batch + 1)
    return seen


@pytest.mark.parametrize("first", [0, 4])
def test_each_wrapper_has_the_schedule_of_its_own_number_of_updates(first):
    model, wrappers = gan(generator={"calls_per_batch": 0.2}, critic={"calls_per_batch": 2})
    schedule = build_schedule(wrappers, COSINE, 15)
    begin(wrappers, model, 15)
    train(model, wrappers, schedule, range(15), lambda batch: batch % 5 == first)
    assert [wrapper.updates for wrapper in wrappers.values()] == [3, 30]
    assert [wrapper.max_counts for wrapper in wrappers.values()] == [3, 30]
    assert all(lr == pytest.approx([0], abs=1e-9) for lr in wrappers.get_lr().values())


def test_a_wrapper_between_batches_is_half_way_where_the_run_is():
    model, wrappers = gan(critic={"calls_per_batch": 2})
    schedule = build_schedule(wrappers, COSINE, 8)
    begin(wrappers, model, 8)
    train(model, wrappers, schedule, range(4))
    half = 0.05 * (1 + math.cos(math.pi / 2))
    assert wrappers.get_lr() == {"generator.lr": [pytest.approx(half)], "critic.lr": [pytest.approx(half)]}


def test_the_last_shorter_window_of_each_is_divided_by_its_own_length():
    model, wrappers = gan(critic={"calls_per_batch": 2, "accumulative_counts": 4})
    begin(wrappers, model, 3)
    before = model["critic"].weight.item()
    train(model, wrappers, build_schedule(wrappers, {}, 3), range(3))
    assert wrappers["critic"].updates == 2
    assert model["critic"].weight.item() == pytest.approx(before - 2 * 0.1)  # two steps along a gradient of 1


def test_more_calls_than_planned_are_an_error_at_the_first_batch():
    model, wrappers = gan()
    begin(wrappers, model, 16)
    with pytest.raises(ConfigError, match=r"optim_wrapper.critic.calls_per_batch=1: .*2 times in 1 batch\. Set"):
        train(model, wrappers, build_schedule(wrappers, COSINE, 16), range(16))


def test_less_calls_than_planned_are_one_warning(caplog):
    model, wrappers = gan(critic={"calls_per_batch": 2})
    begin(wrappers, model, 6)
    train(model, wrappers, build_schedule(wrappers, COSINE, 6), range(6), lambda batch: batch % 5 == 0)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "optim_wrapper.generator.calls_per_batch=1: update_params was called 1 times in 2 batches" in said[0]


def test_a_run_goes_on_with_what_each_wrapper_had_counted():
    model, wrappers = gan(
        generator={"calls_per_batch": 0.2, "accumulative_counts": 2}, critic={"calls_per_batch": 2}
    )
    begin(wrappers, model, 20, 7, {"generator.": 2, "critic.": 14})
    assert [wrapper.inner_count for wrapper in wrappers.values()] == [2, 14]
    begin(wrappers, model, 20, 10, {"generator.": 7, "critic.": 14})  # after 10 batches of another size
    assert [wrapper.inner_count for wrapper in wrappers.values()] == [2, 20]


@pytest.mark.parametrize("value", [0, -1, "often", True, float("inf")])
def test_what_is_no_number_of_calls_is_an_error(value):
    with pytest.raises(ConfigError, match=r"optim_wrapper\.critic\.calls_per_batch="):
        gan(critic={"calls_per_batch": value})


def test_several_wrappers_do_not_share_it():
    model = nn.ModuleDict({"a": nn.Linear(1, 1)})
    cfg = {"a": {"optimizer": SGD}, "calls_per_batch": 2, "constructor": MultiOptimWrapperConstructor}
    with pytest.raises(ConfigError, match=r"optim_wrapper.calls_per_batch=2: .*optim_wrapper.a.calls_per_batch"):
        build_optim_wrapper(model, cfg)
