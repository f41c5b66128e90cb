from pathlib import Path

import pytest

from optwrap.checkpoint.resume import Saved, start_of
from optwrap.plan.order import TrainingOrder
from optwrap.plan.plan import Position

ORDER = TrainingOrder(samples=40, batch_size=4, seed=0)  # 10 micro-batches to an epoch


def saved(**progress):
    numbers = {"micro_batches": 6, "shift": 0, "held": 0, "update": 6, "per_epoch": 10, "batch_size": 4}
    return Saved(Path("x.pt"), {"progress": numbers | {"accumulative_counts": 1} | progress})


def test_a_new_run_begins_at_0():
    assert start_of(None, ORDER, 1) == Position()


@pytest.mark.parametrize("shift", [0, 3, -2])
def test_the_same_plan_goes_on_where_it_stood_with_its_data_as_far_ahead(shift):
    assert start_of(saved(shift=shift), ORDER, 1) == Position(6, shift)


def test_under_another_batch_size_the_data_goes_on_from_the_same_sample():
    # 6 batches of 8 samples are passed, of an epoch of 5: in the second epoch, at sample 8, the third batch of 4.
    assert start_of(saved(batch_size=8, per_epoch=5), ORDER, 1) == Position(6, 12 - 6)


def test_under_another_accumulation_the_updates_go_on():
    assert start_of(saved(), ORDER, 2) == Position(12, -6)
