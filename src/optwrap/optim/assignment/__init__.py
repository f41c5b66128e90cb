"""Which parameter gets which hyperparameters: pure functions from a model and rules to a table.

Imports nothing of optim.
"""
