"""Words for what Hydra cannot make sense of as it was typed: lists, sweeps, null, letters."""

import re

from hydra.errors import OverrideParseException

from optwrap.config.command_line import CommandLine
from optwrap.config.sources import WRAPPER


def explain_unreadable(error: OverrideParseException) -> str:
    """Explain an override that is no KEY=VALUE, or whose value does not parse."""
    if "=" not in error.override:
        return f"{error.override}: an override is KEY=VALUE, for example {error.override}=..."
    reason = next(text for text in error.message.splitlines() if "parsing override" not in text)
    key, _, value = error.override.partition("=")
    if not value.isascii():
        return f"{error.override}: a value with letters beyond ASCII wants quotes of its own: '{key}=\"{value}\"'."
    return (
        f"{error.override}: cannot be read ({reason}). Close every bracket and quote, and quote the whole "
        "override for the shell: 'optim_wrapper=[sgd,amp]'."
    )


def explain_list(message: str) -> str | None:
    """Explain several values without -m: a sweep, or a list of mixins without its brackets."""
    found = re.search(r"Ambiguous value for argument '(([^=]+)=(.*))'", message)
    if found is None:
        return None
    typed, key, value = found.groups()
    is_list = key.split("/")[0] == WRAPPER and "." not in key
    as_list = f" One strategy of several options is a list: '{key}=[{value}]'." if is_list else ""
    return f"{typed}: several values are a sweep, which takes -m: train.py -m {typed}.{as_list}"


def explain_null(message: str, line: CommandLine) -> str | None:
    """Explain a group that was given null for an option."""
    if "Config group override must be a string or a list. Got NoneType" not in message:
        return None
    typed = [override for override in line.overrides if re.fullmatch(r"\+*[\w/@]+=(null|None|)", override)]
    group = typed[0].partition("=")[0].lstrip("+") if typed else "GROUP"
    options = ", ".join(line.options(group)[:6])
    return (
        f"{typed[0] if typed else group}: a group takes the name of an option ({options}, ...), or is left out by "
        f"'~{group}'. For a class of your own: {group}._target_=package.Class."
    )
