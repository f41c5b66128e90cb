"""The one error that is a message to the user: what they can put right themselves."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """Something that a config or a command line can put right; programs show it without a traceback.

    The message names the key as typed, its value and the remedy.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, its class where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the option nearest to `word`, or an empty string.

    >>> did_you_mean("norm_deacy_mult", ["norm_decay_mult", "bias_lr_mult"])
    " Did you mean 'norm_decay_mult'?"
    >>> did_you_mean("zzz", ["norm_decay_mult"])
    ''
    """
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""
