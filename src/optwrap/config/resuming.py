"""What `resume=` means to a command line: the folder, and what the run there was told."""

from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from optwrap.errors import ConfigError

AUTO = "auto"
PARSER_ERRORS: tuple[type[Exception], ...] = (
    *(YAMLError, OmegaConfBaseException, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(AssertionError, RecursionError, OverflowError),
)
"""What PyYAML and OmegaConf raise at texts that they cannot make sense of; found by tests/test_fuzz.py."""
SAVED = Path(".hydra") / "overrides.yaml"


def run_folder(resume: str | None, new: str) -> str:
    """Return the folder of a run: that of the run to go on with, else `new`.

    >>> run_folder(None, "outputs/x"), run_folder("auto", "outputs/x"), run_folder("outputs/earlier", "outputs/x")
    ('outputs/x', 'outputs/x', 'outputs/earlier')
    """
    return new if resume in (None, "", AUTO) else str(resume)


def register_resolver(agree: Callable[[str], str] = str) -> None:
    """Offer `${optwrap.run_folder:RESUME,NEW}` to configs; several processes `agree` on the new folder."""

    def folder(resume: str | None, new: str) -> str:
        return run_folder(resume, agree(str(new)))

    OmegaConf.register_new_resolver("optwrap.run_folder", folder, replace=True)


def with_saved_overrides(arguments: Sequence[str]) -> list[str]:
    """Put what the run in `resume=RUN_DIR` was told before what is typed now, less what is typed anew.

    A group that is chosen anew takes the saved overrides below it along.

    Raises:
        ConfigError: the folder is no run's, or a sweep shall go on in it.
    """
    typed = [each for each in arguments if "=" in each and not each.startswith("-")]
    values = [each.partition("=")[2].strip("'\"") for each in typed if _key(each) == "resume"]
    if not values or values[-1] in ("", "null", AUTO):
        return list(arguments)
    if {"-m", "--multirun"} & set(arguments):
        raise ConfigError(f"resume={values[-1]}: one run goes on in one folder. In a sweep use resume=auto.")
    saved = _saved(Path(values[-1]))
    anew = [_key(each) for each in typed if each not in saved]
    kept = [each for each in saved if each not in typed and not any(_is_below(_key(each), key) for key in anew)]
    place = arguments.index(typed[0])
    return [*arguments[:place], *kept, *arguments[place:]]


def _saved(folder: Path) -> list[str]:
    """Return the overrides that the run was started with, less `resume` and those of Hydra itself."""
    path = folder / SAVED
    if not path.is_file():
        raise ConfigError(f"resume={folder}: this is no run's folder: it has no {SAVED}.")
    try:
        overrides = OmegaConf.to_container(OmegaConf.load(path))
    except PARSER_ERRORS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"resume={folder}: {SAVED} cannot be read ({reason}).") from error
    if not isinstance(overrides, list) or not all(isinstance(each, str) for each in overrides):
        raise ConfigError(f"resume={folder}: {SAVED} is no list of overrides.")
    return [each for each in overrides if _key(each).split(".")[0] not in ("resume", "hydra")]


def _key(override: str) -> str:
    """Return the key of an override, groups written like nodes.

    >>> _key("+schedule.lr=1"), _key("optim_wrapper/generator=[adam,amp]")
    ('schedule.lr', 'optim_wrapper.generator')
    """
    return override.partition("=")[0].lstrip("+~").partition("@")[0].replace("/", ".")


def _is_below(key: str, above: str) -> bool:
    return key == above or key.startswith(f"{above}.")
