import os
import signal
import sys
from contextlib import suppress

import pytest

from optwrap.program.interruption import (
    Interrupted,
    Interruption,
    ended_by_signals,
    exit_code,
    how_to_go_on,
    not_mangled,
)


def send(signum):
    os.kill(os.getpid(), signum)


@pytest.fixture(autouse=True)
def _handlers_as_before():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
    before = {signum: signal.getsignal(signum) for signum in numbers}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_noted_and_ends_the_run_where_it_is_asked_for(signum, code):
    def run():
        with Interruption() as interruption:
            interruption.check()
            assert not interruption.requested(True)
            send(signum)
            assert interruption.requested(True)
            interruption.check()

    with pytest.raises(Interrupted) as end:
        run()
    assert exit_code(end.value) == code
    assert exit_code(how_to_go_on(end.value, "/run")) == code


def test_how_to_go_on_is_said_where_there_is_a_checkpoint_to_go_on_from(tmp_path):
    interrupt = Interrupted(signal.SIGTERM)
    assert str(how_to_go_on(interrupt, str(tmp_path))).endswith(f"{tmp_path}, with no checkpoint yet")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "update_000001.pt").touch()
    assert str(how_to_go_on(interrupt, str(tmp_path))).endswith(f"resume={tmp_path}")


def test_the_second_ctrl_c_stops_at_once():
    def run():
        with Interruption():
            send(signal.SIGINT)
            send(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as end:
        run()
    assert not isinstance(end.value, Interrupted)
    assert exit_code(end.value) == 130


def test_handlers_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_what_can_be_repeated_ends_at_once():
    def run():
        with Interruption() as interruption:
            with interruption.at_once():
                pass
            with interruption.at_once():
                send(signal.SIGTERM)
                raise AssertionError("went on")

    with pytest.raises(Interrupted):
        run()


@pytest.fixture
def submitit():
    """Handlers as submitit has them: SIGUSR2 requeues the job and exits; SIGTERM is logged. What was called."""
    called = []

    def requeue(signum, frame):
        called.append("requeue")
        raise SystemExit(-1)

    signal.signal(signal.SIGUSR2, requeue)
    signal.signal(signal.SIGTERM, lambda signum, frame: called.append("bypass"))
    return called


def test_a_scheduler_that_requeues_is_called_after_the_checkpoint_and_its_exit_passes(submitit):
    def run():
        with Interruption() as interruption:
            send(signal.SIGUSR2)
            send(signal.SIGTERM)  # which comes when Slurm ends the job; the requeue is not lost by it
            assert interruption.requested(True)
            submitit.append("checkpoint")
            interruption.check()

    with pytest.raises(SystemExit):
        run()
    assert submitit == ["checkpoint", "requeue"]


def test_a_scheduler_is_called_when_what_is_being_written_is_there(submitit):
    def run():
        with Interruption() as interruption:
            interruption.settle = lambda: submitit.append("written")
            send(signal.SIGUSR2)
            assert interruption.requested(True)
            submitit.append("checkpoint")
            interruption.check()

    with pytest.raises(SystemExit):
        run()
    assert submitit == ["checkpoint", "written", "requeue"]


def test_a_run_saves_at_each_sigterm_that_a_scheduler_ignores_and_goes_on(submitit):
    """Slurm sends it when the time of grace begins, and when it ends; submitit waits to be killed."""
    with Interruption() as interruption:
        for _ in range(2):
            send(signal.SIGTERM)
            assert interruption.requested(True)
            submitit.append("checkpoint")
            interruption.check()
            assert not interruption.requested(True)
    assert submitit == ["checkpoint", "bypass"] * 2


def test_what_can_be_repeated_is_left_to_the_scheduler_at_once(submitit):
    def run():
        with Interruption() as interruption, interruption.at_once():
            send(signal.SIGTERM)
            submitit.append("evaluation")
            send(signal.SIGUSR2)
            raise AssertionError("went on")

    with pytest.raises(SystemExit):
        run()
    assert submitit == ["bypass", "evaluation", "requeue"]


def test_a_signal_without_a_handler_of_anyones_is_left_alone():
    with Interruption():
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


class Lost:
    """A finalizer in which a signal comes: Python prints what is raised there, and goes on."""

    def __del__(self):
        send(signal.SIGTERM)


def mangled():
    try:
        send(signal.SIGTERM)
    except BaseException:
        raise RecursionError("of an import") from None


def swallowed():
    with suppress(BaseException):
        send(signal.SIGTERM)
    raise AttributeError("what was half imported")


def exited():
    with suppress(BaseException):
        send(signal.SIGTERM)
    sys.exit(1)


def finalised():
    Lost()
    raise OSError("what comes of it")


@pytest.mark.parametrize("library", [mangled, swallowed, exited, finalised])
def test_a_signal_that_a_library_makes_an_error_of_is_an_interrupt(library, capfd):
    with pytest.raises(Interrupted) as end, ended_by_signals(), not_mangled():
        library()
    assert exit_code(end.value) == 143
    assert capfd.readouterr().err == ""


def test_an_error_without_a_signal_stays_what_it_is():
    with pytest.raises(OSError, match="disk"), ended_by_signals(), not_mangled():
        raise OSError("disk")


def test_a_signal_that_a_library_swallows_before_the_loop_ends_the_run_after_its_first_micro_batch():
    def run():
        with suppress(BaseException):
            send(signal.SIGTERM)
        with Interruption() as interruption:
            assert interruption.requested(True)
            interruption.check()

    with pytest.raises(Interrupted) as end, ended_by_signals():
        run()
    assert exit_code(end.value) == 143
