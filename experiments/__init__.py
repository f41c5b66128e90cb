"""Experiments: their configs, and the models, data and tasks that are theirs alone."""
