"""How a run's end is told: in its log, and on the terminal."""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from optwrap.config.messages.frames import short_traceback
from optwrap.errors import ConfigError

log = logging.getLogger(__name__)


@contextmanager
def every_end_noted(hidden: str) -> Iterator[None]:
    """Log what ends a run inside and is no Exception; `hidden` is for `short_traceback`.

    Raises:
        ConfigError: code of the run called sys.exit(0): who started the program would take it for a success.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):  # others deal with these
        raise
    except SystemExit as end:
        said = _exit_message(end)
        if not end.code:
            raise ConfigError(said) from end
        log_failure(said)
        if isinstance(end.code, int):  # a text is shown by Python
            show(said)
        raise
    except BaseException as error:  # a GeneratorExit, or one of the user's
        log_failure(short_traceback(error, hidden))
        raise


def show(message: str) -> None:
    """Print to stderr what may hold any text, lone surrogates included."""
    print(message.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)


def log_failure(message: str) -> None:
    """Write the message into the run's log; on the terminal it comes at the end."""
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, message, (), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
    sys.stderr = _WithoutJobLine(sys.stderr)


class _WithoutJobLine:
    """stderr less Hydra's 'Error executing job with overrides', which repeats what was just typed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if text.startswith("Error executing job with") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _exit_message(end: SystemExit) -> str:
    frame = traceback.extract_tb(end.__traceback__)[-1]
    return f"sys.exit({end.code!r}) in {frame.filename}, line {frame.lineno}, ended the run before its end."
