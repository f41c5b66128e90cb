"""Signals that end a run in good order: Ctrl-C, SIGTERM, and the one by which Slurm announces preemption."""

import atexit
import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

Handler = Callable[[int, FrameType | None], Any]
_ENDING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run that was asked to end, and has saved where it stood.

    Not an Exception: no sweeper shall take it for a job that failed.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum


def how_to_go_on(interrupt: KeyboardInterrupt, folder: str, sweep: str | None = None) -> Interrupted:
    """Return the same interrupt with a message: where what was written is, and how it goes on.

    `sweep` is that message where the run is a job of one.
    """
    signum = interrupt.signum if isinstance(interrupt, Interrupted) else signal.SIGINT
    if sweep is not None:
        return Interrupted(signum, sweep)
    if not Path(folder).exists():
        return Interrupted(signum, "nothing was written")
    message = f"what was written is in {folder}"
    if any(Path(folder, "checkpoints").glob("*.pt")):
        from optwrap.config.command_line import as_override  # here, since this module loads in an instant

        message += f"\nGo on with: python {Path(sys.argv[0]).name} {shlex.quote(as_override('resume', folder))}"
    else:
        message += ", with no checkpoint yet"
    return Interrupted(signum, message)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return 128 + the signal, as shells do: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (interrupt.signum if isinstance(interrupt, Interrupted) else signal.SIGINT)


def output_is_read() -> bool:
    """Tell whether what the program prints is still read: else a BrokenPipeError is of no interest."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLOUT)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                return False
        except BrokenPipeError:
            return False
        except (OSError, ValueError, AttributeError):  # no file, or a system without poll
            continue
    return True


def reader_gone() -> int:
    """Write no more to a pipe that nobody reads, as after `| head`; return the exit code."""
    # What is still in the buffer has to go somewhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM end what runs inside as Ctrl-C does, unless an `Interruption` takes it; neither is lost.

    So a launcher's workers go too, and a sweep writes what came out. The signal may come inside a library that
    catches whatever is raised: so it is noted too, for `not_mangled` and for an `Interruption` that begins later.
    """
    show, handler = sys.unraisablehook, _EndAtOnce()

    def show_unless_asked_to_end(lost: Any) -> None:  # finalizers, also of what was left half loaded
        if handler.noted is None:
            show(lost)

    sys.unraisablehook = show_unless_asked_to_end
    try:
        with handled(list(_open_signals()), handler):
            yield
    finally:
        sys.unraisablehook = show
        if handler.noted is not None:  # what is finalised at the interpreter's end
            atexit.register(setattr, sys, "unraisablehook", show_unless_asked_to_end)


@contextmanager
def not_mangled() -> Iterator[None]:
    """Raise the interrupt that was asked for in place of the error that a library has made of it."""
    try:
        yield
    except (Exception, SystemExit) as error:
        signum = next(iter(_noted(map(signal.getsignal, _ENDING))), None)
        if signum is None or (isinstance(error, SystemExit) and error.code == 128 + signum):
            raise
        raise Interrupted(signum) from error


@contextmanager
def handled(signals: Iterable[int], handler: Handler) -> Iterator[dict[int, Any]]:
    """Give the signals to the handler inside; yield what handles them afterwards: what is taken out stays.

    Outside the main thread, where Python forbids handlers, none is given.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {signum: signal.signal(signum, handler) for signum in signals} if in_main_thread else {}
    try:
        yield before
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)


class _EndAtOnce:
    """A handler for this process; in one that it forks the signal does what it always does.

    `noted` is the signal that came, whatever became of what was raised.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.noted: int | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self.noted = signum
            raise Interrupted(signum)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


class Interruption:
    """Notes a request to end, so that the loop can finish its micro-batch and save: a context manager.

    - SIGINT and SIGTERM end the run where nobody else has a handler for them. The second one acts at once, as it
      would have without this. One that came before, and was lost, counts.
    - SIGTERM, SIGUSR1 and SIGUSR2 that have a handler, such as submitit's: it is called after the checkpoint, and
      decides. Submitit's requeues the job and exits at SIGUSR2. At SIGTERM, which Slurm sends some time before it
      kills, submitit's returns, and the run goes on until it is killed.

    Outside the main thread nothing is taken (see `handled`). Of several ranks, `agree` tells
    each whether any was asked (`Ranks.agreement`), so that all end after the same update. They are asked more
    than once: Slurm signals all processes of a job, and what started the ranks passes it on to them. So there
    a second signal does not act at once; who started them kills what does not end.
    """

    def __init__(self, agree: Callable[[bool], bool] | None = None) -> None:
        self._agree = agree
        self._is_due = False
        self._noted: list[int] = []
        self._handlers, self._before = ExitStack(), dict[int, Any]()
        self._others: dict[int, Handler] = {}
        self._ends_at_once = False
        self.settle: Callable[[], object] | None = None  # before another's handler: the end of a save

    def requested(self, ends_update: bool) -> bool:
        """Whether to save after this micro-batch; `ends_update` tells whether it is the last of an update."""
        if self._agree is None:
            self._is_due = bool(self._noted)
        elif ends_update:
            self._is_due = self._agree(bool(self._noted))
        return self._is_due

    def check(self) -> None:
        """Raise Interrupted if the run shall end, or what another's handler raises; call it where all is saved."""
        if not self._is_due:
            return
        self._act()
        if self._agree is not None:
            raise Interrupted(signal.SIGTERM)  # another rank was asked

    def _act(self) -> None:
        while self._noted:
            signum = self._noted.pop(0)
            if signum not in self._others:
                raise Interrupted(signum)
            if self.settle is not None:
                self.settle()
            self._others[signum](signum, None)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a request ends the run where it stands: what runs there can be repeated from what is saved."""
        self._ends_at_once = True
        try:
            self._act()
            yield
        finally:
            self._ends_at_once = False

    def __enter__(self) -> Self:
        self._others = dict(handled_by_others())
        self._before = self._handlers.enter_context(handled([*_open_signals(), *self._others], self._note))
        self._noted += list(_noted(self._before.values()))[:1]  # which a library has caught since
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handlers.close()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        # Nothing is logged here: the signal may have come in the middle of writing a log line.
        self._noted.append(signum)
        if signum not in self._others and self._agree is None and signum in self._before:
            signal.signal(signum, self._before.pop(signum))
        if self._ends_at_once:
            self._act()


def is_open(signum: int) -> bool:
    """Tell whether nobody but this module has a handler for the signal."""
    handler = signal.getsignal(signum)
    return handler in (signal.SIG_DFL, signal.default_int_handler) or isinstance(handler, _EndAtOnce)


def _open_signals() -> Iterator[int]:
    return (signum for signum in _ENDING if is_open(signum))


def _noted(handlers: Iterable[Any]) -> Iterator[int]:
    """Yield the signals that came to one of the handlers, which no `Interruption` then took."""
    for handler in handlers:
        if isinstance(handler, _EndAtOnce) and handler.noted is not None:
            yield handler.noted


def handled_by_others() -> Iterator[tuple[int, Handler]]:
    """Yield the signals of preemption that somebody else, such as submitit, has a handler for, and this."""
    for name in ("SIGTERM", "SIGUSR1", "SIGUSR2"):
        signum = getattr(signal, name, None)
        if signum is None or is_open(signum):
            continue
        handler = signal.getsignal(signum)
        if callable(handler):
            yield signum, handler
