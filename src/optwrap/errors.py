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


_ALSO_CALLED = {  # names that other libraries have for the same, which no likeness of letters finds
    "lr": ("learning_rate", "base_lr"),
    "weight_decay": ("wd", "decay", "l2"),
    "epochs": ("num_epochs", "n_epochs", "max_epochs"),
    "max_updates": ("max_steps", "num_steps", "max_iters", "steps", "iterations"),
    "batch_size": ("bs", "batch"),
    "nproc": ("gpus", "devices", "world_size", "num_processes"),
    "resume": ("ckpt_path", "checkpoint_path", "load_from"),
    "accumulative_counts": ("accumulate_grad_batches", "gradient_accumulation_steps", "grad_accum"),
    "max_norm": ("gradient_clip_val", "clip_norm", "max_grad_norm"),
}


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the option nearest to `word`, or an empty string.

    >>> did_you_mean("norm_deacy_mult", ["norm_decay_mult", "bias_lr_mult"])
    " Did you mean 'norm_decay_mult'?"
    >>> did_you_mean("learning_rate", ["lr", "momentum"])
    " Did you mean 'lr'?"
    >>> did_you_mean("zzz", ["norm_decay_mult"])
    ''
    """
    by_lower = {option.lower(): option for option in options}
    for name, others in _ALSO_CALLED.items():
        if word.lower() in others and name in by_lower:
            return f" Did you mean {by_lower[name]!r}?"
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""
