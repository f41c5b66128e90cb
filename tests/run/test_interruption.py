import os
import signal

import pytest

from optwrap.run.interruption import Interrupted, Interruption, exit_code, how_to_go_on


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
    assert str(how_to_go_on(end.value, "/run")).startswith("what was written is in /run\nGo on with: python ")


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


def test_a_scheduler_that_requeues_is_called_last_and_its_exit_passes():
    """As submitit does: SIGUSR2 requeues the job and exits; SIGTERM is its own to ignore."""
    saved = []

    def requeue(signum, frame):
        assert saved == ["checkpoint"]
        raise SystemExit(-1)

    def run():
        with Interruption() as interruption:
            assert signal.getsignal(signal.SIGTERM) is ignore
            send(signal.SIGUSR2)
            assert interruption.requested(True)
            saved.append("checkpoint")
            interruption.check()

    signal.signal(signal.SIGUSR2, requeue)
    signal.signal(signal.SIGTERM, ignore := lambda signum, frame: None)
    with pytest.raises(SystemExit):
        run()


def test_a_signal_without_a_handler_of_anyones_is_left_alone():
    with Interruption():
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
