import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optwrap.errors import ConfigError
from optwrap.vision import digits
from optwrap.vision.folds import fold_rows


@given(st.integers(2, 6), st.integers(0, 3), st.data())
def test_each_row_is_validated_on_once_and_trained_on_by_the_other_folds(folds, seed, data):
    counts = data.draw(st.lists(st.integers(folds, 15), min_size=1, max_size=4))
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    split = [fold_rows(labels, fold, folds, seed) for fold in range(folds)]
    assert sorted(torch.cat([val for _, val in split]).tolist()) == list(range(len(labels)))
    for train, val in split:
        assert sorted([*train.tolist(), *val.tolist()]) == list(range(len(labels)))
        for label, count in enumerate(counts):  # each class is spread evenly
            assert count // folds <= int((labels[val] == label).sum()) <= -(-count // folds)


def test_folds_of_digits_leave_its_test_set_alone():
    whole, first, second = digits(), digits(fold=0), digits(fold=1, folds=4)
    assert [len(each.test) for each in (whole, first, second)] == [360] * 3
    assert [len(each.val) for each in (whole, first, second)] == [359, 288, 359]
    assert [len(each.train) + len(each.val) for each in (first, second)] == [1437] * 2
    for each in (first, second):
        assert torch.equal(each.test.labels, whole.test.labels)


@pytest.mark.parametrize(
    ("fold", "folds", "message"),
    [
        (5, 5, "data.fold=5: with data.folds=5 they are numbered from 0 to 4"),
        (-1, 5, "data.fold=-1: "),
        (0, 1, "data.fold=0: with data.folds=1"),
        (0, 7, "data.folds=7: a class has 6 samples"),
    ],
)
def test_a_fold_that_there_is_not_is_named(fold, folds, message):
    with pytest.raises(ConfigError, match=message):
        fold_rows(torch.tensor([0] * 6 + [1] * 9), fold, folds, seed=0)
