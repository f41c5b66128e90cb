"""What Hydra 1.3 and Hydra 1.4 want said in different words; said here, for both.

A fork goes when 1.3 goes; nothing else asks which Hydra there is.
"""

from collections.abc import Callable
from typing import Any

import hydra
import omegaconf
from omegaconf import OmegaConf

VERSION_BASE: dict[str, str] = {} if not hydra.__version__.startswith("1.3.") else {"version_base": "1.3"}
"""The argument that 1.4 warns of, and without which 1.3 takes the defaults of 1.1."""


def register_resolver(name: str, resolver: Callable[..., Any]) -> None:
    """Offer `${name:...}` to configs, in place of an earlier one of that name."""
    # OmegaConf 2.3 has a function of the new name too, which does something else.
    is_old = omegaconf.__version__.startswith("2.3.")
    register: Any = OmegaConf.register_new_resolver if is_old else OmegaConf.register_resolver
    register(name, resolver, replace=True)
