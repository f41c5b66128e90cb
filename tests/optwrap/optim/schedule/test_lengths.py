"""Lengths as a config writes them: updates, fractions of the run, epochs."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optwrap.errors import ConfigError
from optwrap.optim.schedule.lengths import Clock

CLOCK = Clock(updates=100, per_epoch=Fraction(25, 2))  # 8 epochs of 12.5 updates
UPDATE, EPOCH = CLOCK.unit("update", "k"), CLOCK.unit("epoch", "k")


@pytest.mark.parametrize(
    ("value", "unit", "updates"),
    [
        (30, UPDATE, 30),
        (3e1, UPDATE, 30),
        (0, UPDATE, 0),
        (0.1, UPDATE, 10),
        (0.126, UPDATE, 13),
        ("2 epochs", UPDATE, 25),
        ("1 epoch", UPDATE, 13),  # the update that begins in it is of it
        ("2.4 epochs", UPDATE, 30),
        ({"epochs": 2}, UPDATE, 25),
        (2, EPOCH, 25),
        (0.5, EPOCH, 50),
        ("30 updates", EPOCH, 30),
    ],
)
def test_a_place_is_in_updates(value, unit, updates):
    assert CLOCK.place(value, "k", unit) == updates


@given(epochs=st.integers(0, 20), micro_batches=st.integers(1, 30), counts=st.integers(1, 7))
def test_an_update_is_of_the_epoch_that_its_first_micro_batch_is_of(epochs, micro_batches, counts):
    clock = Clock(updates=10**6, per_epoch=Fraction(micro_batches, counts))
    place = clock.place(f"{epochs} epochs", "k", clock.unit("update", "k"))
    first_micro_batches = [update * counts for update in range(1000)]
    assert place == next(i for i, each in enumerate(first_micro_batches) if each >= epochs * micro_batches)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (-1, UPDATE, "k=-1: it is a number of updates"),
        (True, UPDATE, "k=True: it is a number of updates"),
        (1.5, UPDATE, "k=1.5: it is a number of updates"),
        (1.0, UPDATE, r"k=1.0: is it one update \(1\), or the whole run"),
        (float("nan"), UPDATE, "k=nan"),
        ("soon", UPDATE, "k='soon': it is a number of updates.*'3 epochs'"),
        ("soon", EPOCH, "k='soon': it is a number of epochs.*'500 updates'"),
        ([3], UPDATE, r"k=\[3\]"),
        ("2.3 epochs", UPDATE, "k='2.3 epochs': it ends inside an update: an epoch has 12.5"),
        (101, UPDATE, r"k=101: it lies beyond the run's 100 updates \(8 epochs\)"),
        ("9 epochs", UPDATE, "k='9 epochs': it lies beyond"),
    ],
)
def test_what_is_no_place_is_an_error_with_the_remedy(value, unit, said):
    with pytest.raises(ConfigError, match=said):
        CLOCK.place(value, "k", unit)


def test_epochs_that_nobody_knows_are_an_error():
    with pytest.raises(ConfigError, match="k='3 epochs': nobody knows how many updates"):
        Clock(100).place("3 epochs", "k", Fraction(1))
    with pytest.raises(ConfigError, match=r"k.per=epoch: nobody knows"):
        Clock(100).unit("epoch", "k")
