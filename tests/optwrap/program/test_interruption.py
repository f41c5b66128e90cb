import os
import signal

import pytest

from optwrap.program.interruption import Interrupted, Interruption, exit_code, how_to_go_on


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
