"""How a program of the project starts.

Nothing here takes long to load, so that Ctrl-C is one line from the first moment on: `main` and `script` load the
rest inside. A program therefore imports torch through `optwrap.run`, which loads what is asked of it.
"""

import atexit
import functools
import gc
import inspect
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optwrap.errors import ConfigError
from optwrap.program.interruption import ended_by_signals, exit_code, not_mangled, output_is_read, reader_gone

Task = Callable[..., Any]
FULL_ERROR = "HYDRA_FULL_ERROR"


def main(config_name: str = "config", config_path: str = "conf") -> Callable[[Task], Callable[..., Any]]:
    """Make a function of the composed config the program of its file, as `hydra.main` does.

    `config_path` lies beside that file. What a user can put right becomes one message on stderr and exit
    code 1; any other error keeps its traceback, less the frames of Hydra and OmegaConf, also code 1;
    Ctrl-C gives one line and 130, SIGTERM 143; argparse's own errors give 2. `HYDRA_FULL_ERROR=1` shows
    everything as Hydra does. Called with a config, as in a notebook, the program is the plain function, whose
    run has a folder all the same (`called`).
    """

    def decorate(task: Task) -> Callable[..., Any]:
        script = Path(inspect.getfile(task)).resolve()

        @functools.wraps(task)
        def program(cfg: Any = None) -> Any:
            if cfg is not None:
                from optwrap.program.called import called

                return called(task, cfg, script.parent / config_path, config_name)
            _write_any_text()
            with _interrupted_in_one_line():
                _announce()
                from optwrap.program.app import run

                return run(task, script, script.parent / config_path, config_name)

        return program

    return decorate


def script(main: Callable[[list[str]], Any], usage: str | None) -> None:
    """Run `main` on the command line; print `usage` for --help, and one line on what a user can put right."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(usage)
        return
    _write_any_text()
    with _interrupted_in_one_line():
        try:
            with not_mangled():
                main(sys.argv[1:])
            sys.stdout.flush()
        except ConfigError as error:
            sys.exit(str(error))
        except BrokenPipeError:
            if output_is_read():
                raise
            sys.exit(reader_gone())
        except OSError as error:  # a folder that cannot be written, a full disk
            if error.filename is None:
                raise
            sys.exit(f"{error.filename2 or error.filename}: {error.strerror}.")


def split_arguments(arguments: Sequence[str], own: Mapping[str, str | None]) -> tuple[dict[str, str], list[str]]:
    """Split `key=value` arguments into a program's own (with their defaults, None: required) and the rest.

    One whose default is empty may be left empty.

    Raises:
        ConfigError: an argument is no `key=value`, or a required one is missing.

    >>> split_arguments(["run=outputs/x", "device=cpu"], {"run": None, "split": "test"})
    ({'run': 'outputs/x', 'split': 'test'}, ['device=cpu'])
    """
    values, rest = dict(own), []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"{argument}: arguments are written key=value. {_usage(own)}")
        if key in own:
            values[key] = value
        else:
            rest.append(argument)
    missing = [key for key, value in values.items() if not value and own[key] != ""]
    if missing:
        raise ConfigError(f"{missing[0]}= is missing. {_usage(own)}")
    return {key: str(value) for key, value in values.items()}, rest


@contextmanager
def _interrupted_in_one_line() -> Iterator[None]:
    """End the process with one line at a signal of which nobody inside says more, as while libraries load."""
    atexit.register(_leave_at_once)
    try:
        with ended_by_signals(), not_mangled():
            yield
    except KeyboardInterrupt as interrupt:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        print("\ninterrupted", file=sys.stderr)
        sys.exit(exit_code(interrupt))


def _announce() -> None:
    """Say on a terminal that a run begins, since libraries take seconds to load; not where a flag only shows."""
    only_shows = any(each.startswith("-") and each not in ("-m", "--multirun") for each in sys.argv[1:])
    if sys.stderr.isatty() and not only_shows and "RANK" not in os.environ:
        print("Loading torch ...", file=sys.stderr, flush=True)


def load_torch() -> None:
    """Import torch, where it is not there yet, and spare Python all searches for garbage in what that makes.

    They took half a second until the first update: what is loaded stays, and so does what was there before.
    """
    if "torch" in sys.modules or not gc.isenabled():
        return
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        gc.enable()
    gc.freeze()


def _leave_at_once() -> None:
    """Spare the interpreter's end two searches through all that libraries have loaded, which took 2 s."""
    gc.collect()  # once: finalizers of what is in cycles are called
    gc.freeze()


def _write_any_text() -> None:
    """Let a terminal or file of few characters get the others spelt out, such as a table's plus-minus."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")


def _usage(own: Mapping[str, str | None]) -> str:
    return "Usage: " + " ".join(
        f"{key}=..." if value is None else f"[{key}={value}]" for key, value in own.items()
    )
