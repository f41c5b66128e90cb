"""Checkpoints of one file, written at once or by a thread; tests/optwrap/test_resume.py has whole runs."""

import os
import signal
import subprocess
import threading
from collections import OrderedDict

import pytest
import torch
from torch import nn

from optwrap.checkpoint.file_saver import FileSaver, on_host
from optwrap.checkpoint.files import load
from optwrap.plan.ranks import ALONE, Ranks
from tests.optwrap import forking

CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("asynchronous", [False, True])


@pytest.fixture
def held_back(monkeypatch):
    """Let no file be whole before this event."""
    event, flush = threading.Event(), os.fsync

    def wait_and_flush(descriptor):
        assert event.wait(timeout=30)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", wait_and_flush)
    return event


def state(value=1.0, size=10):
    return {
        "model": OrderedDict(weight=torch.full((size,), value)),
        "optim_wrapper": {"state": {"weight": {"step": torch.tensor(3.0), "moments": [torch.zeros(2), ()]}}},
        "progress": {"at": value},
    }


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def equal(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    return True


@BOTH
def test_what_was_saved_comes_back_and_the_oldest_go(asynchronous, checkpoints):
    saver = FileSaver(checkpoints, ALONE, asynchronous)
    for update in (1, 2, 3):
        saver.save(state(update), update, 0)
    saver.ongoing.wait()
    assert names(checkpoints) == ["update_000002.pt", "update_000003.pt"]
    assert equal(load(checkpoints.latest, CPU), state(3))


@pytest.mark.parametrize("size", [10, 4 * 2**20], ids=["small", "large"])
def test_one_in_the_background_holds_what_there_was_and_is_there_when_it_was_looked_for(
    size, checkpoints, held_back
):
    saver, live = FileSaver(checkpoints, ALONE, asynchronous=True), state(1.0, size)
    path = saver.save(live, 1, 0)
    live["model"]["weight"].zero_()
    live["optim_wrapper"]["state"]["weight"]["step"].zero_()
    live["optim_wrapper"]["state"]["weight"]["moments"].clear()
    live["progress"]["at"] = 0.0
    saver.ongoing.poll()
    assert not saver.ongoing.is_idle
    assert not path.exists()
    held_back.set()
    while not saver.ongoing.is_idle:
        saver.ongoing.poll()
    assert equal(load(path, CPU), state(1.0, size))


def test_the_next_save_waits_for_the_one_before(checkpoints, held_back):
    saver = FileSaver(checkpoints, ALONE, asynchronous=True)
    first = saver.save(state(1.0), 1, 0)
    threading.Timer(0.1, held_back.set).start()
    saver.save(state(2.0), 2, 0)
    assert first.exists()
    saver.ongoing.wait()


def test_the_best_is_kept_as_such_once_it_is_written(checkpoints, held_back):
    saver = FileSaver(checkpoints, ALONE, asynchronous=True)
    saver.ongoing.mark_best(saver.save(state(1.0), 1, 0))
    assert not checkpoints.best.exists()
    held_back.set()
    for update in (2, 3, 4):
        saver.save(state(update), update, 0)
    saver.ongoing.wait()
    assert equal(load(checkpoints.best, CPU), state(1.0))
    saver.ongoing.mark_best(checkpoints.path_of(4, 0))
    assert equal(load(checkpoints.best, CPU), state(4))


def test_other_ranks_write_nothing_and_name_the_same_file(checkpoints):
    other = FileSaver(checkpoints, Ranks(rank=1, size=2), asynchronous=True)
    path = other.save({}, 1, 0)
    other.ongoing.mark_best(path)
    other.ongoing.wait()
    assert path == checkpoints.path_of(1, 0)
    assert not checkpoints.folder.exists()


def test_a_full_disk_is_told_when_it_is_known_and_leaves_the_checkpoint_before(tmp_path):
    """In a process of its own, whose files may not grow beyond 100 kB."""
    code = f"""
import resource, signal, torch
from pathlib import Path
from optwrap.errors import ConfigError
from optwrap.checkpoint.files import Checkpoints
from optwrap.plan.ranks import ALONE
from optwrap.checkpoint.file_saver import FileSaver
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder = Path({str(tmp_path)!r})
saver = FileSaver(Checkpoints(folder / "checkpoints", folder / "checkpoint.pt", keep=1), ALONE, asynchronous=True)
saver.save({{"x": torch.ones(3)}}, 1, 0)
saver.save({{"x": torch.zeros(100_000)}}, 2, 0)
try:
    saver.ongoing.wait()
except ConfigError as error:
    print(error)
saver.ongoing.wait()
"""
    done = subprocess.run([forking.python(), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("update_000002.pt: the checkpoint cannot be written (File too large)") == 1
    assert done.stderr == ""
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["update_000001.pt"]
    assert equal(load(tmp_path / "checkpoint.pt", CPU), {"x": torch.ones(3)})


def test_a_copy_on_the_host_has_tied_weights_once_and_what_belongs_to_a_models_state_dict():
    model = nn.ModuleDict({"embedding": nn.Embedding(4, 3), "head": nn.Linear(3, 4), "norm": nn.BatchNorm2d(2)})
    model.head.weight = model.embedding.weight
    own = model.state_dict()
    copied = on_host({"model": own, "sparse": torch.eye(3).to_sparse()})["model"]
    assert copied["head.weight"] is copied["embedding.weight"]
    assert copied["head.weight"].data_ptr() != own["head.weight"].data_ptr()
    assert copied._metadata == own._metadata
    assert equal(dict(copied), dict(own))


def test_a_copy_on_the_host_is_what_it_was_given():
    weight = nn.Parameter(torch.ones(2))
    milestones = torch.optim.lr_scheduler.MultiStepLR(torch.optim.SGD([weight], lr=0.1), [4, 6]).state_dict()
    numbers = torch.tensor([1 + 2j, 3 - 1j])
    given = [milestones, numbers, numbers.conj(), torch.empty(3, device="meta"), weight, torch.eye(2).to_sparse()]
    copied = on_host(given)
    assert copied[0] == milestones
    assert equal(copied[1:3], given[1:3])
    assert (copied[3].is_meta, copied[3].shape) == (True, (3,))
    assert isinstance(copied[4], nn.Parameter)
    assert equal(copied[5].to_dense(), torch.eye(2))


def test_an_interrupted_wait_forgets_no_checkpoint(checkpoints, held_back):
    saver = FileSaver(checkpoints, ALONE, asynchronous=True)
    saver.ongoing.mark_best(saver.save(state(1.0), 1, 0))
    main = threading.main_thread().ident
    threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        saver.ongoing.wait()
    assert not saver.ongoing.is_idle
    held_back.set()
    saver.ongoing.wait()
    assert equal(load(checkpoints.best, CPU), state(1.0))


def test_a_copy_on_the_host_lies_in_memory_as_the_tensor_does():
    images = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert on_host([images])[0].stride() == images.stride()
    assert on_host((torch.rand(100)[:3],))[0].untyped_storage().nbytes() == 12
