import os
import subprocess

import pytest
import torch
from torch import nn

from optwrap.checkpoint import files as checkpoint
from optwrap.checkpoint.model_state import load_model
from optwrap.errors import ConfigError
from optwrap.optim import build_optim_wrapper
from tests.optwrap import forking

CPU = torch.device("cpu")


@pytest.fixture
def state(toy_model):
    cfg = {"optimizer": {"_target_": "torch.optim.AdamW"}, "paramwise_cfg": {"norm_decay_mult": 0}}
    optim_wrapper = build_optim_wrapper(toy_model, cfg)
    optim_wrapper.update_params(sum(p.sum() for p in toy_model.parameters()))
    return {"model": toy_model.state_dict(), "optim_wrapper": optim_wrapper.state_dict(), "micro_batches": 1}


def test_what_was_saved_comes_back(state, tmp_path):
    checkpoint.save(tmp_path / "c.pt", state)
    loaded = checkpoint.load(tmp_path / "c.pt", CPU)
    torch.testing.assert_close(loaded["model"], state["model"], rtol=0, atol=0)
    torch.testing.assert_close(loaded["optim_wrapper"]["state"], state["optim_wrapper"]["state"], rtol=0, atol=0)
    assert loaded["optim_wrapper"]["param_groups"] == state["optim_wrapper"]["param_groups"]
    assert os.listdir(tmp_path) == ["c.pt"]


def test_a_failed_save_leaves_the_earlier_one(state, tmp_path):
    checkpoint.save(tmp_path / "c.pt", state)
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save(tmp_path / "c.pt", {"model": lambda: None})
    assert checkpoint.load(tmp_path / "c.pt", CPU)["micro_batches"] == 1


class Runs:
    """What makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_or_hostile_file_is_an_error_and_is_not_run(content, tmp_path):
    path = tmp_path / "c.pt"
    if content is None:
        torch.save({"model": Runs(tmp_path / "ran")}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="no readable checkpoint"):
        checkpoint.load(path, CPU)
    assert not (tmp_path / "ran").exists()


def test_a_truncated_file_is_an_error(state, tmp_path):
    path = tmp_path / "c.pt"
    checkpoint.save(path, state)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ConfigError, match="no readable checkpoint"):
        checkpoint.load(path, CPU)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "c.pt", CPU)


def test_weights_of_another_model_are_an_error(state, tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)does not fit the model.*head.linear.weight"):
        load_model(nn.Linear(1, 1), state, tmp_path)


def test_a_flipped_bit_in_a_weight_is_found(tmp_path):
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"model": {"weight": torch.zeros(10_000)}})
    content = bytearray(path.read_bytes())
    content[20_000] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["model"]["weight"].any()  # torch itself does not look
    with pytest.raises(ConfigError, match="checksum"):
        checkpoint.load(path, CPU)


@pytest.mark.parametrize(
    ("begin", "bits"),
    [(b"PK\1\2", [4]), pytest.param(b"PK", range(8), marks=pytest.mark.slow)],
    ids=["a bit of each byte of its directory", "all"],
)
def test_no_flipped_bit_changes_what_a_checkpoint_holds(begin, bits, tmp_path):
    path, state = tmp_path / "c.pt", {"weight": torch.arange(1.0, 4.0), "step": torch.tensor(7), "lr": 0.5}
    checkpoint.save(path, state)
    whole = path.read_bytes()
    for place in range(whole.index(begin), len(whole)):
        for bit in bits:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                loaded = checkpoint.load(path, CPU)
            except ConfigError:
                continue
            assert loaded.keys() == state.keys()
            torch.testing.assert_close(loaded, state, rtol=0, atol=0)


def test_a_full_disk_is_one_message_and_leaves_the_last_good_checkpoint(tmp_path):
    """In a process of its own, whose files may not grow beyond 100 kB."""
    code = f"""
import resource, signal, torch
from pathlib import Path
from optwrap.checkpoint.files import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path({str(tmp_path)!r})
checkpoints = Checkpoints(folder / "checkpoints", folder / "checkpoint.pt", keep=1)
checkpoints.save({{"x": 1}}, 1, 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
checkpoints.save({{"x": torch.zeros(100_000)}}, 2, 0)
"""
    done = subprocess.run([forking.python(), "-c", code], capture_output=True, text=True)
    assert "ConfigError" in done.stderr
    assert "update_000002.pt: the checkpoint cannot be written (File too large)" in done.stderr
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["update_000001.pt"]
    assert checkpoint.load(tmp_path / "checkpoint.pt", CPU) == {"x": 1}


def test_the_newest_is_that_of_the_most_updates_and_then_micro_batches(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path / "c", tmp_path / "last.pt", keep=3)
    for update, held in ((9, 0), (9, 2), (1_000_000, 0), (1_000_000, 1)):
        checkpoints.save({"at": (update, held)}, update, held)
    assert [path.name for path in checkpoints.paths()] == [
        "update_1000000_1.pt", "update_1000000.pt", "update_000009_2.pt"
    ]  # fmt: skip
    assert checkpoint.load(tmp_path / "last.pt", CPU)["at"] == (1_000_000, 1)


def test_the_best_stays_when_its_other_name_goes(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path / "c", tmp_path / "last.pt", keep=1)
    checkpoints.mark_best(checkpoints.save({"at": 1}, 1, 0))
    checkpoints.save({"at": 2}, 2, 0)
    assert checkpoints.find("best", CPU)[1] == {"at": 1}
    assert checkpoints.find("last", CPU)[1] == {"at": 2}


@pytest.fixture
def checkpoints(tmp_path):
    return checkpoint.Checkpoints(tmp_path / "c", tmp_path / "last.pt", keep=1)


def test_what_a_kill_inside_of_a_save_has_left_undone_is_done_later(checkpoints, monkeypatch):
    checkpoints.save({"at": 1}, 1, 0)

    def killed(path, name):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save({"at": 2}, 2, 0)
    assert checkpoint.load(checkpoints.latest, CPU) == {"at": 1}
    assert len(checkpoints.paths()) == 2
    checkpoints.complete(checkpoints.paths()[0])
    assert checkpoint.load(checkpoints.latest, CPU) == {"at": 2}
    assert [path.name for path in checkpoints.paths()] == ["update_000002.pt"]


def test_a_complete_checkpoint_stays_as_it_is_with_and_without_links(checkpoints, monkeypatch):
    def refused(path, name):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refused)
    path = checkpoints.save({"at": 1}, 1, 0)
    before = checkpoints.latest.stat()
    checkpoints.complete(path)
    assert checkpoints.latest.stat() == before


def test_links_among_the_checkpoints_go_and_what_they_lead_to_stays(checkpoints, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "data").touch()
    (tmp_path / "c").mkdir()
    for name in ("x.tmp", "update_000007.shards", "update_000009.2.shards"):
        (tmp_path / "c" / name).symlink_to(tmp_path / "elsewhere")
    checkpoints.save({"at": 1}, 1, 0)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["update_000001.pt"]
    assert (tmp_path / "elsewhere" / "data").exists()


class Held:
    """An object in an optimizer's state."""


def test_a_first_checkpoint_that_no_run_could_read_is_said_at_once(tmp_path):
    checkpoints = checkpoint.Checkpoints.of_run(tmp_path, keep=2)
    with pytest.raises(ConfigError, match=r"update_000001\.pt: .*Held, so no run could read it.*add_safe_globals"):
        checkpoints.save({"state": Held()}, 1, 0)


def test_only_the_first_checkpoint_is_read_back(tmp_path):
    checkpoints = checkpoint.Checkpoints.of_run(tmp_path, keep=2)
    checkpoints.save({"state": torch.ones(2)}, 1, 0)
    checkpoints.save({"state": Held()}, 2, 0)
    assert [path.name for path in checkpoints.paths()] == ["update_000002.pt", "update_000001.pt"]
