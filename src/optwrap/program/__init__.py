"""A process from its command line to its end: composing, launching ranks, signals, the run's folder.

Imports record, plan, sweep, config and what lies below; of the loop in `train.py` it knows nothing.
"""
