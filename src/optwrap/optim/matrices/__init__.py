"""Optimizers that work on matrices, such as Muon, for parameters that are none as they stand."""
