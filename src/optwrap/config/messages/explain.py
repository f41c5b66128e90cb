"""Turns an error into the one message that a user needs: what was typed, what is wrong, what to do.

Hydra's and OmegaConf's exceptions hold the facts (the node, the key, the options); the words are ours.
"""

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from optwrap.config.command_line import CommandLine
from optwrap.config.messages.file_errors import explain_file
from optwrap.config.messages.frames import (
    causes,
    framework_raised,
    is_framework_file,
    library_raised,
    raised_by_optimizer,
    while_composing,
)
from optwrap.config.messages.node_errors import explain_node, listing, no_value
from optwrap.config.messages.typed_errors import explain_list, explain_null, explain_unreadable
from optwrap.config.messages.wrapper_errors import explain_clash, explain_misplaced, explain_no_group
from optwrap.config.sources import EXPERIMENT, WRAPPER
from optwrap.errors import ConfigError, did_you_mean
from optwrap.hydra_versions import refusal

EXTRAS = {  # what offers an option of Hydra's own groups: the extra of pyproject.toml that installs it
    "hydra/launcher/joblib": "joblib",
    "hydra/launcher/submitit_local": "submitit",
    "hydra/launcher/submitit_slurm": "submitit",
    "hydra/launcher/ray": "ray",
}
FILLED_IN_LATER = frozenset({"T_max", "total_steps", "total_updates", "total_iters", "max_lr", "mode"})
"""Arguments of schedulers that the run's own length and lr fill in, so that a config may leave them out."""

_LIBRARY = Path(__file__).parents[1]
_FULL_KEY = re.compile(r"full_key: (\S+)")


def explain(error: BaseException, line: CommandLine) -> str | None:
    """Return the message for what a user can put right; None for a bug, whose traceback is needed."""
    if config_errors := [link for link in causes(error) if isinstance(link, ConfigError)]:
        return str(config_errors[0])
    if of_null := explain_null(str(error), line):
        return of_null
    if isinstance(error, OverrideParseException):
        return explain_unreadable(error)
    if isinstance(error, MissingConfigException):
        return _unknown_option(error, line)
    if isinstance(error, InstantiationException) or _FULL_KEY.search(_notes(error)):
        return _failed_target(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _explain_composed(error, line)
    if of_file := explain_file(error, line):
        return of_file
    if raised_by_optimizer(error):
        return f"optim_wrapper.optimizer: {error}"
    if isinstance(error, YAMLError):
        return f"A config file is not valid YAML: {error}"
    if framework_raised(error) and isinstance(error, AssertionError):
        message = _override_too_early(error) or _below_null(line)
        if message:
            return message
    if framework_raised(error) and isinstance(error, ValueError):
        return f"{' '.join(line.overrides)}: {error}".lstrip(": ")
    if while_composing(error) and line.overrides:  # an assertion or an index deep in Hydra
        text = (str(error).splitlines() or [""])[0]
        return (
            f"{' '.join(line.overrides)}: Hydra cannot compose this ({type(error).__name__}: {text}). "
            "HYDRA_FULL_ERROR=1 shows where."
        )
    return None


def _explain_composed(error: HydraException | OmegaConfBaseException, line: CommandLine) -> str:
    # Hydra raises some of its errors in the handler of OmegaConf's, without naming it as the cause.
    nodes = [error, error.__cause__, error.__context__]
    node = next((link for link in nodes if isinstance(link, OmegaConfBaseException)), None)
    if node is not None:
        place = _place(error)
        return explain_misplaced(error, node, line, place) or explain_node(node, line, place)
    known = (
        explain_list(str(error))
        or explain_clash(str(error), line)
        or explain_no_group(str(error), line, _place(error))
    )
    return known or _override_too_early(error) or str(error)


def check_complete(cfg: DictConfig, line: CommandLine) -> None:
    """Raise ConfigError if a value that nothing will fill in is missing: before the slow imports."""
    # Plain containers, since OmegaConf.missing_keys would stumble over interpolations of missing values.
    missing = _missing_keys(OmegaConf.to_container(cfg, resolve=False))
    if unfilled := [key for key in missing if not _filled_in_later(key)]:
        raise ConfigError("\n".join(no_value(key, line) for key in unfilled))


def _filled_in_later(key: str) -> bool:
    return key.startswith("schedule.") and key.rpartition(".")[2] in FILLED_IN_LATER


def _missing_keys(node: Any, above: str = "") -> Iterator[str]:
    if node == MISSING:
        yield above
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from _missing_keys(child, f"{above}.{name}".lstrip("."))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _missing_keys(child, f"{above}[{index}]")


def _unknown_option(error: MissingConfigException, line: CommandLine) -> str:
    path = error.missing_cfg_file or ""
    group, _, option = path.rpartition("/")
    if path.startswith(f"{EXPERIMENT}/"):
        group, _, option = path.partition("/")
    if not group:
        return str(error)
    if extra := EXTRAS.get(path):
        return f'{line.typed(group) or path}: this needs a further package: pip install -e ".[{extra}]"'
    options = line.options(group)
    if group.count("/") > 1 and group.startswith(f"{WRAPPER}/"):
        return f"{'/'.join(group.split('/')[:2])}: wrappers nest one level deep only."
    if not options:
        return f"There is no group {group!r}.{did_you_mean(group, line.groups())}"
    typed = line.typed(group)
    start = f"{typed}: " if typed and option in typed else _place(error)
    text = f"{start}group {group} has no option {option!r}.{did_you_mean(option, reversed(options))}"
    return f"{text}\n{listing('Its options', options)}"


def _notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def _failed_target(error: BaseException) -> str | None:
    """Explain a `_target_` that is not there or refuses its arguments; None where a project's code raised.

    From Hydra 1.4 on what a target raised comes as it was, with a note of the key.
    """
    root = list(causes(error))[-1]
    refused = isinstance(root, TypeError | ValueError) and library_raised(root)
    if not framework_raised(root) and not refused:
        return None
    key = _FULL_KEY.search(f"{error}\n{_notes(error)}")
    text = re.sub(r"\n *full_key: \S+", "", str(error)).strip()
    if said := refusal(text):
        text = said
    elif not isinstance(error, InstantiationException):
        text = f"{type(error).__name__}: {error}"
    elif root is not error:
        text = f"{re.split('[:,]', text)[0]}: {type(root).__name__}: {root}"
    return f"{key[1]}: {text}" if key else text


def _override_too_early(error: Exception) -> str | None:
    """Explain what Hydra 1.4 says, and 1.3 as a bare AssertionError where the next line has a list."""
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    bare = isinstance(error, AssertionError) and "_update_overrides" in frames
    if not bare and "Overrides must be at the end of the defaults list" not in str(error):
        return None
    return "A defaults list has an `override` line before one that is none: put the `override` lines last."


def _below_null(line: CommandLine) -> str | None:
    """Explain OmegaConf's bare AssertionError for a key below a null."""
    nested = [override for override in line.overrides if "." in override.partition("=")[0]]
    if not nested:
        return None
    return f"{' '.join(nested)}: a key above is null, so nothing below it can be set; set that key itself."


def _place(error: BaseException) -> str:
    """Name the config file that holds the mistake, or the line of code that read the config."""
    if isinstance(error, HydraException):
        found = re.match(r"In '([^']+)': ", str(error))
        return (
            f"In {_file(found[1])}: " if found and "/" in found[1] and not found[1].startswith("schema/") else ""
        )
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_framework_file(frame.filename)]
    if not own or not framework_raised(error) or Path(own[-1].filename).is_relative_to(_LIBRARY):
        return ""
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}: "


def _file(config_path: str) -> str:
    """Name the file of a config, as a project has it.

    >>> _file("experiment/gan"), _file("optim_wrapper/generator/clip"), _file("model/vit")
    ('experiments/gan.yaml', 'optim_wrapper/clip.yaml', 'model/vit.yaml')
    """
    group, *between, option = config_path.split("/")
    if group == EXPERIMENT:
        return "/".join(["experiments", *between, f"{option}.yaml"])
    return "/".join([group, *([] if group == WRAPPER else between), f"{option}.yaml"])
