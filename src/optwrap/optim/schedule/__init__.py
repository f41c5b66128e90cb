"""Schedules of hyperparameters, advanced by the updates that a wrapper made.

Imports the wrappers.
"""
