import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper, OptimWrapperDict
from optwrap.plan.plan import Plan, Position, make_plan


def wrapper(counts=1):
    return OptimWrapper(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1), counts)


def plan_of(**kwargs):
    defaults = {"epochs": 2, "max_updates": None, "log_every": 3, "eval_every": None}
    counts = kwargs.pop("counts", 1)
    return make_plan(10, wrapper(counts), **(defaults | kwargs))


def test_epochs_count_micro_batches():
    plan = plan_of(epochs=3, counts=4)
    assert (plan.micro_batches, plan.updates) == (30, 8)


def test_max_updates_decides_over_epochs():
    plan = plan_of(max_updates=7, counts=4)
    assert (plan.micro_batches, plan.updates) == (28, 7)


def test_evaluation_after_each_epoch_or_every_so_many_updates():
    by_epoch, by_update = plan_of(counts=3), plan_of(counts=3, eval_every=4)
    assert [c for c in range(1, 21) if by_epoch.evaluates_after(c)] == [10, 20]
    assert [c for c in range(1, 21) if by_update.evaluates_after(c)] == [12, 20]


def test_evaluation_after_every_second_epoch_and_at_the_end():
    plan = plan_of(epochs=5, eval_epochs=2)
    ends = [plan.per_epoch * epoch for epoch in (2, 4, 5)]
    assert [count for count in range(plan.micro_batches + 1) if plan.evaluates_after(count)] == ends
    assert all(plan.saves_after(plan.per_epoch * epoch) for epoch in range(1, 6))


def test_rows_every_so_many_updates_and_at_the_end():
    plan = plan_of(counts=2)
    assert [plan.update_after(c) for c in range(1, 21) if plan.logs_after(c)] == [3, 6, 9, 10]


def test_several_wrappers_count_by_the_longest_window():
    plan = make_plan(
        10, OptimWrapperDict(a=wrapper(2), b=wrapper(5)), epochs=1, max_updates=None, log_every=1, eval_every=None
    )
    assert plan.updates == 2


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9))
def test_updates_agree_with_the_wrapper(micro_batches, per_epoch, counts, log_every):
    plan = Plan(micro_batches, per_epoch, counts, log_every, None)
    optim_wrapper = wrapper(counts)
    updates = 0
    for count in range(1, micro_batches + 1):
        optim_wrapper.initialize_count_status(nn.Linear(1, 1), count - 1, micro_batches)
        assert plan.ends_update(count) == optim_wrapper.should_sync()
        updates += plan.ends_update(count)
        assert plan.update_after(count) == updates
    assert plan.updates == updates
    assert plan.logs_after(micro_batches)
    assert plan.evaluates_after(micro_batches)


@pytest.mark.parametrize("key", ["epochs", "max_updates", "log_every", "eval_every", "eval_epochs"])
def test_numbers_below_one_are_errors_that_name_the_key(key):
    with pytest.raises(ConfigError, match=f"{key}=0"):
        plan_of(**{key: 0})


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 5), st.none() | st.integers(1, 4))
def test_several_ranks_save_between_updates_what_is_due_before_the_next(micro_batches, per_epoch, counts, every):
    alone = Plan(micro_batches, per_epoch, counts, 1, None, every)
    ranks = Plan(micro_batches, per_epoch, counts, 1, None, every, between_updates=True)
    saved = [count for count in range(1, micro_batches + 1) if ranks.saves_after(count)]
    assert all(ranks.ends_update(count) for count in saved)
    for count in range(1, micro_batches + 1):
        if alone.saves_after(count) and count >= counts:
            assert any(ranks.update_after(count) == ranks.update_after(each) and each <= count for each in saved)


def test_data_that_is_ahead_of_the_count_decides_epochs():
    """After a resume under another batch size: 4 micro-batches are done, and the data of 7."""
    plan = Plan(12, per_epoch=5, accumulative_counts=1, log_every=1, eval_every=None, start=Position(4, shift=3))
    assert [plan.data_after(count) for count in (4, 8)] == [7, 11]
    assert [plan.epoch_of(count) for count in (4, 7, 8)] == [2, 2, 3]
    assert [count for count in range(5, 13) if plan.evaluates_after(count)] == [7, 12]
    assert [count for count in range(5, 13) if plan.saves_after(count)] == [7, 12]
