"""optwrap: optimizer wrappers for PyTorch, configured by Hydra."""
