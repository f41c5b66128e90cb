import pytest

from optwrap.errors import ConfigError
from optwrap.program.interruption import Interrupted
from optwrap.program.processes import (
    Processes,
    arguments_of_rank,
    joined,
    rank_suffix,
    shares_the_terminal,
    started_by_torchrun,
)

RANK = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture
def rank(monkeypatch):
    """This process, as torchrun would start rank 1."""
    for name, value in RANK.items():
        monkeypatch.setenv(name, value)


class Store(dict):
    """What of torch's store the processes use."""

    def compare_set(self, key, expected, value):
        if not expected:
            self.setdefault(key, value.encode())
        return self[key]

    def check(self, keys):
        return all(key in self for key in keys)

    def set(self, key, value):
        self[key] = value.encode()

    def wait(self, keys, timeout):
        if not all(key in self for key in keys):
            raise RuntimeError("timed out")


def test_a_process_by_itself_is_left_as_it_is():
    assert not started_by_torchrun()
    assert (rank_suffix(), shares_the_terminal()) == ("", False)
    assert arguments_of_rank(["-m", "seed=0,1"]) == ["-m", "seed=0,1"]
    with joined() as processes:
        assert processes.agree_on_folder("here") == "here"
        assert processes.shows("message")
        error = ValueError("wrong")
        assert processes.why(error, "wrong") is error


@pytest.mark.usefixtures("rank")
def test_ranks_above_0_log_to_a_file_of_their_own():
    assert (rank_suffix(), shares_the_terminal()) == ("_rank1", True)


@pytest.mark.usefixtures("rank")
def test_a_sweep_under_torchrun_is_an_error_with_the_remedy():
    with pytest.raises(ConfigError, match=r"-m: .*nproc=2"):
        arguments_of_rank(["-m", "seed=0,1"])


@pytest.mark.usefixtures("rank")
def test_a_group_that_was_started_again_goes_on(monkeypatch):
    assert arguments_of_rank(["seed=1"]) == ["seed=1"]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert arguments_of_rank(["seed=1"]) == ["seed=1", "resume=auto"]
    assert arguments_of_rank(["resume=outputs/x"]) == ["resume=outputs/x"]


def test_rank_0_makes_the_folder_of_all_which_stays_theirs_after_a_restart(tmp_path):
    store, taken = Store(), tmp_path / "12-00-00"
    taken.mkdir()
    assert Processes(0, store, store).agree_on_folder(str(taken)) == f"{taken}_2"
    assert Processes(1, store, store).agree_on_folder(str(tmp_path / "12-00-01")) == f"{taken}_2"
    assert Processes(0, store, store).agree_on_folder(str(tmp_path / "12-00-30")) == f"{taken}_2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["12-00-00", "12-00-00_2"]


def test_the_first_rank_to_fail_is_named_by_the_others():
    store = Store()
    first, second = (Processes(rank, store, store) for rank in (1, 0))
    error = ConfigError("batch_size=3: wrong")
    assert first.why(error, "batch_size=3: wrong") is error
    assert first.shows("batch_size=3: wrong")
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer")
    assert str(second.why(lost, "a traceback")) == "rank 1 failed: batch_size=3: wrong"
    assert not second.shows("a traceback")


def test_a_rank_that_lost_an_interrupted_one_is_interrupted_too():
    store = Store()
    assert Processes(1, store, store).ends("interrupted", "15")
    cause = Processes(0, store, store).why(RuntimeError("gloo: Broken pipe"), "a traceback")
    assert isinstance(cause, Interrupted)
    assert cause.signum == 15


def test_a_rank_that_died_without_a_word_is_one_message_with_the_remedy():
    store = Store()
    cause = Processes(0, store, store).why(RuntimeError("gloo: Connection closed by peer"), "a traceback")
    assert isinstance(cause, ConfigError)
    assert "another process of this run died" in str(cause)
    assert "--max-restarts" in str(cause)
