"""What a run leaves and shows: rows of metrics, the live display, the curves, the result.

Imports loggers, plan, optim and what lies below.
"""
