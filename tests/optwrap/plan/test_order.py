from hypothesis import given
from hypothesis import strategies as st

from optwrap.plan.order import EvaluationOrder, TrainingOrder
from optwrap.plan.ranks import Ranks


@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 30), st.integers(0, 30))
def test_the_order_of_a_part_is_that_part_of_the_order(samples, size, first, length):
    order = TrainingOrder(samples, min(size, samples), seed=3)
    whole = list(order.between(0, first + length))
    assert list(order.between(first, first + length)) == whole[first:]


@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 5))
def test_ranks_share_an_evaluation_each_sample_once_in_equally_many_batches(samples, share, size):
    if samples < size:
        return
    orders = [EvaluationOrder(samples, share * size, 0, Ranks(rank, size)) for rank in range(size)]
    parts = [list(order) for order in orders]
    assert sorted(row for part in parts for index in part for row in index.rows) == list(range(samples))
    assert {len(part) for part in parts} == {len(order) for order in orders} == {len(parts[0])}
    assert all(len(index.rows) for part in parts for index in part)


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 4), st.integers(0, 20), st.integers(0, 20))
def test_ranks_train_on_what_one_rank_takes_in_smaller_micro_batches(samples, share, size, first, length):
    samples = max(samples, share * size)
    whole = TrainingOrder(samples, share * size, seed=3)
    ranks = [
        list(TrainingOrder(samples, share * size, 3, Ranks(rank, size)).between(first, first + length))
        for rank in range(size)
    ]
    together = [[row for part in step for row in part.rows] for step in zip(*ranks, strict=True)]
    assert together == [index.rows for index in whole.between(first, first + length)]
    if samples % (share * size) == 0:  # else the smaller micro-batches also take the rest of an epoch
        pieces = TrainingOrder(samples, share, seed=3).between(first * size, (first + length) * size)
        assert [part for step in zip(*ranks, strict=True) for part in step] == list(pieces)
