"""optwrap: optimizer wrappers for PyTorch, configured by Hydra."""

__version__ = "0.2.0"
"""The library's own version, which goes with it into projects of any name."""
