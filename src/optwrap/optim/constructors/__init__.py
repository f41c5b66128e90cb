"""What turns a model and a config into a wrapper: default, layer decay, several wrappers, several optimizers.

Imports every other room of optim but `named_state`.
"""
