"""Batches of streams, against slices of the samples by hand."""

import pytest
import torch

from optwrap.errors import ConfigError
from optwrap.plan.ranks import ALONE, Ranks
from optwrap.run.loaders import make_loaders
from optwrap.run.setup import Process
from tests.optwrap.run.data.own import Shuffled, SizedStream, Stream
from tests.optwrap.run.data.runs import on, result, rows

CPU = torch.device("cpu")


def loaders_of(train, val=None, workers=0, ranks=ALONE):
    return make_loaders({"train": train, "val": val}, 4, workers, 0, Process(CPU, ranks))


def made(batches):
    return [[each.tolist() for each in batch] for batch in batches]


def numbers(batches):
    return [batch[0].tolist() for batch in batches]


def test_an_epoch_is_a_pass_less_its_rest():
    loaders = loaders_of(SizedStream(10))
    assert loaders.order.per_epoch == 2
    assert numbers(loaders.training(0, 4)) == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2


def test_without_a_length_one_pass_follows_the_other():
    assert numbers(loaders_of(Stream(6)).training(0, 3)) == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]


@pytest.mark.parametrize("kind", [Stream, SizedStream, Shuffled])
def test_any_part_of_a_run_has_the_batches_of_the_whole_random_numbers_included(kind):
    whole = made(loaders_of(kind(10)).training(0, 7))
    assert len({random for _, randoms in whole for random in randoms}) == 28
    for first, last in [(0, 1), (1, 7), (2, 5), (3, 7), (6, 7)]:
        assert made(loaders_of(kind(10)).training(first, last)) == whole[first:last]


@pytest.mark.parametrize("kind", [Stream, Shuffled])
def test_workers_change_no_batch(kind):
    expected = (
        made(loaders_of(kind(10), kind(10)).training(1, 5)),
        made(loaders_of(kind(10), kind(10)).evaluation("val")),
    )
    loaders = loaders_of(kind(10), kind(10), workers=2)
    assert made(loaders.training(1, 5)) == expected[0]
    assert made(loaders.evaluation("val")) == made(loaders.evaluation("val")) == expected[1]


def test_a_stream_that_begins_anywhere_makes_nothing_of_what_was_seen():
    stream = Shuffled(40)
    list(loaders_of(stream).training(8, 10))
    assert stream.made == 9  # and one to see whether it reaches so far


def test_each_pass_has_an_order_of_its_own_where_the_stream_shuffles_by_its_seed():
    first, second = numbers(loaders_of(Shuffled(4)).training(0, 2))
    assert first != second
    assert sorted(first) == sorted(second) == [0, 1, 2, 3]


def test_two_ranks_share_each_batch_and_see_each_sample_once():
    parts = [loaders_of(SizedStream(9), Stream(9), ranks=Ranks(rank, 2)) for rank in (0, 1)]
    assert [numbers(part.training(0, 2)) for part in parts] == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    # The rest is one sample, which two ranks cannot share.
    assert [numbers(part.evaluation("val")) for part in parts] == [[[0, 1], [4, 5]], [[2, 3], [6, 7, 8]]]


def test_an_evaluation_has_each_sample_once():
    loaders = loaders_of(Stream(6), Stream(6))
    assert numbers(loaders.evaluation("val")) == [[0, 1, 2, 3], [4, 5]]


class Liar(Stream):
    def __len__(self):
        return 2 * self.count


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("train", "val", "said"),
    [
        (Liar(6), None, r"data\.train: the stream has ended after 6 samples, and its __len__ says 12"),
        (Stream(0), None, r"data\.train: the stream is empty"),
        (Stream(6), Stream(0), r"data\.val: the stream has 0 samples"),
    ],
)
def test_a_stream_without_the_samples_that_it_should_have_is_one_message(train, val, said, workers):
    loaders = loaders_of(train, val, workers)
    with pytest.raises(ConfigError, match=said):
        list(loaders.training(0, 2) if val is None else loaders.evaluation("val"))


def test_a_stream_of_unknown_length_needs_max_updates(train, capsys):
    with pytest.raises(SystemExit):
        train(*on("streams", "data.kind=unsized"))
    assert "max_updates=null: data.train is a stream that does not say its length" in capsys.readouterr().err


LENGTH = {"unsized": "max_updates=15", "sized": "epochs=3", "shuffled": "epochs=3"}


@pytest.mark.parametrize(
    ("kind", "workers"),
    [("shuffled", 0), *(pytest.param(*each, marks=pytest.mark.slow) for each in [("unsized", 0), ("sized", 2)])],
)
def test_a_run_on_a_stream_goes_on_to_the_bit(kind, workers, train, tmp_path):
    own = (*on("streams", f"data.kind={kind}"), f"num_workers={workers}", "eval_every=4")
    whole = train(*own, LENGTH[kind])
    folder = tmp_path / "parts"
    for length in ("max_updates=7", LENGTH[kind] if "max" in LENGTH[kind] else "max_updates=18"):
        train(*own, length, "schedule=constant", f"hydra.run.dir={folder}", "resume=auto")
    again = train(*own, "schedule=constant", LENGTH[kind])
    first, second = (torch.load(each / "checkpoint.pt") for each in (again, folder))
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name]), name
    assert result(folder)["val/loss"] == result(again)["val/loss"]
    assert [row["split"] for row in rows(whole)][-2:] == ["val", "test"]


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["debug.fast_dev_run=true", "debug.overfit_batches=2"])
def test_debugging_takes_the_first_of_a_stream(switch, train):
    folder = train(*on("streams", "data.kind=unsized"), "max_updates=3", switch)
    assert "test/accuracy" in result(folder)
