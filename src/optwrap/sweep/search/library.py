"""Optuna, where it is installed; it says nothing of each study and trial."""

from typing import Any

from optwrap.import_paths import import_extra


def load_optuna(key: str = "hydra/sweeper=search") -> Any:
    """Return the package; `key` is what of the config asks for it.

    Raises:
        ConfigError: it is not installed.
    """
    optuna = import_extra("optuna", key)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
