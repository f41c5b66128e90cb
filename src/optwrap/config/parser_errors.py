"""What PyYAML and OmegaConf raise at texts that they cannot make sense of."""

from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

PARSER_ERRORS: tuple[type[Exception], ...] = (
    *(YAMLError, OmegaConfBaseException, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(AssertionError, RecursionError, OverflowError),
)
"""Found by tests/optwrap/test_fuzz.py."""
