"""What `resume=` means to a command line: the folder, and what the run there was told."""

from collections.abc import Callable, Sequence
from pathlib import Path

from optwrap import hydra_versions
from optwrap.config.command_line import as_override, asks_for_sweep
from optwrap.config.saved_overrides import check_saved, read_saved
from optwrap.errors import ConfigError

AUTO = "auto"


def run_folder(resume: str | None, new: str) -> str:
    """Return the folder of a run: that of the run to go on with, else `new`.

    >>> run_folder(None, "outputs/x"), run_folder("auto", "outputs/x"), run_folder("outputs/earlier", "outputs/x")
    ('outputs/x', 'outputs/x', 'outputs/earlier')
    """
    return new if resume in (None, "", AUTO) else str(resume)


def register_resolver(agree: Callable[[str], str] = str) -> None:
    """Offer `${optwrap.run_folder:RESUME,NEW}` to configs; several processes `agree` on the new folder."""

    def folder(resume: str | None, new: str) -> str:
        return run_folder(resume, str(new) if run_folder(resume, "") else agree(str(new)))

    hydra_versions.register_resolver("optwrap.run_folder", folder)


def resumed(arguments: Sequence[str]) -> Path | None:
    """Return the folder of the run to go on with, which may be named by a checkpoint in it; None: there is none.

    >>> resumed(["epochs=5", "resume=outputs/x"]), resumed(["resume=auto"])
    (PosixPath('outputs/x'), None)
    """
    values = [_unquoted(each.partition("=")[2]) for each in _typed(arguments) if _key(each) == "resume"]
    if not values or values[-1] in ("", "null", AUTO):
        return None
    path = Path(values[-1]).expanduser()
    return path.parent if path.is_file() else path


def with_saved_overrides(arguments: Sequence[str]) -> list[str]:
    """Put what the run in `resume=RUN_DIR` was told before what is typed now, less what is typed anew.

    A group that is chosen anew takes the saved overrides below it along.

    Raises:
        ConfigError: the folder is no run's, a sweep shall go on in it, or what it was told is not trusted.
    """
    typed, folder = _typed(arguments), resumed(arguments)
    if folder is None:
        return list(arguments)
    if asks_for_sweep(arguments):
        raise ConfigError(f"resume={folder}: one run goes on in one folder. In a sweep use resume=auto.")
    saved = read_saved(folder)
    anew = [_key(each) for each in typed if each not in saved]
    kept = [each for each in saved if each not in typed and not any(_is_below(_key(each), key) for key in anew)]
    check_saved(kept, folder)
    place = arguments.index(typed[0])
    named = as_override("resume", str(folder))
    now = [named if each in typed and _key(each) == "resume" else each for each in arguments[place:]]
    return [*arguments[:place], *kept, *now]


def _unquoted(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1].replace(f"\\{value[0]}", value[0]) if is_quoted else value


def _typed(arguments: Sequence[str]) -> list[str]:
    return [each for each in arguments if "=" in each and not each.startswith("-")]


def _key(override: str) -> str:
    """Return the key of an override, groups written like nodes.

    >>> _key("+schedule.lr=1"), _key("optim_wrapper/generator=[adam,amp]")
    ('schedule.lr', 'optim_wrapper.generator')
    """
    return override.partition("=")[0].lstrip("+~").partition("@")[0].replace("/", ".")


def _is_below(key: str, above: str) -> bool:
    return key == above or key.startswith(f"{above}.")
